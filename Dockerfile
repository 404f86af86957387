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
# Type declarations, source maps and documentation are for people who program with the packages, not for running them.
RUN npm ci --ignore-scripts --omit=optional --omit=dev \
  && find node_modules -type f \( -name '*.d.ts' -o -name '*.d.cts' -o -name '*.d.mts' -o -name '*.map' -o -name '*.md' \) -delete \
  && rm -rf node_modules/@types node_modules/*/prebuilds/darwin-* node_modules/*/prebuilds/ios-* \
    node_modules/*/prebuilds/android-* node_modules/*/prebuilds/win32-* node_modules/zod/src

FROM node:24-trixie-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends zstd age gpg gpg-agent \
  && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/apt /var/log/dpkg.log
WORKDIR /lifeboat
COPY --from=modules /build/node_modules ./node_modules
COPY --from=build /build/dist ./dist
COPY package.json ./
COPY docker/lifeboat /usr/local/bin/lifeboat
ENV NODE_ENV=production NODE_COMPILE_CACHE=/spool/state/compile-cache
VOLUME /spool
# The daemon touches the file every half minute; `find` says nothing about one that is missing or older than two minutes.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD test -n "$(find /run/lifeboat/alive -mmin -2)"
ENTRYPOINT ["lifeboat"]
CMD ["daemon"]
