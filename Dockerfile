FROM node:24-trixie-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN node node_modules/typescript/bin/tsc -p tsconfig.build.json

FROM node:24-trixie-slim AS modules
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --omit=optional --omit=dev

FROM node:24-trixie-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends zstd age gnupg \
  && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/apt /var/log/dpkg.log
WORKDIR /lifeboat
COPY --from=modules /build/node_modules ./node_modules
COPY --from=build /build/dist ./dist
COPY package.json ./
COPY docker/lifeboat /usr/local/bin/lifeboat
ENV NODE_ENV=production NODE_COMPILE_CACHE=/spool/state/compile-cache
VOLUME /spool
# The daemon touches the file every half minute; two missed beats make the container unhealthy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["find", "/run/lifeboat/alive", "-mmin", "-2", "-exec", "true", "{}", "+"]
ENTRYPOINT ["lifeboat"]
CMD ["daemon"]
