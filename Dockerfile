FROM node:24-trixie-slim AS packages
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts

FROM packages AS build
COPY tsconfig.json rolldown.config.js ./
COPY src ./src
RUN node node_modules/rolldown/bin/cli.mjs --config rolldown.config.js

# The image carries the licences of the bundled packages; some packages state theirs only in package.json. This stage does
# not depend on src/, so a change of the program does not repeat it.
FROM packages AS licenses
RUN npm prune --ignore-scripts --omit=dev --omit=optional \
  && find node_modules -type f \( -iname 'licen[cs]e*' -o -iname 'notice*' -o -iname 'readme*' -o -name package.json \) \
    -exec cp --parents -t /srv {} +

FROM node:24-trixie-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends zstd age gpg gpg-agent \
  && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/apt /var/log/dpkg.log
WORKDIR /lifeboat
COPY --from=licenses /srv/node_modules ./licenses
COPY --from=build /build/dist ./dist
COPY package.json LICENSE ./
COPY docker/lifeboat /usr/local/bin/lifeboat
ENV NODE_ENV=production NODE_COMPILE_CACHE=/spool/state/compile-cache
VOLUME /spool
# The daemon touches the file every half minute; `find` says nothing about one that is missing or older than two minutes.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD test -n "$(find /run/lifeboat/alive -mmin -2)"
ENTRYPOINT ["lifeboat"]
CMD ["daemon"]
