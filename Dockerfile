FROM node:24-trixie-slim AS packages
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts

FROM packages AS build
COPY tsconfig.json rolldown.config.js ./
COPY src ./src
RUN node node_modules/rolldown/bin/cli.mjs --config rolldown.config.js
# The image carries the licences of the packages in the bundle; some packages state theirs only in package.json.
RUN xargs -a dist/packages.txt -I DIR find DIR -mindepth 1 -name node_modules -prune \
  -o -type f \( -iname 'licen[cs]e*' -o -iname 'notice*' -o -iname 'readme*' -o -name package.json \) \
    -exec cp --parents -t /srv {} +

FROM node:24-trixie-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends zstd age gpg gpg-agent \
  && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/apt /var/log/dpkg.log
WORKDIR /lifeboat
COPY --from=build /srv/node_modules ./licenses
COPY --from=build /build/dist ./dist
COPY package.json LICENSE ./
COPY docker/lifeboat /usr/local/bin/lifeboat
ENV NODE_ENV=production NODE_COMPILE_CACHE=/lifeboat/compile-cache
# Compiles every module. The compiled code belongs in the image, not in the spool, because the program and its helpers load
# it. Node keeps it apart for each set of V8 options, so the launcher itself runs this, as it runs `backup` and `status`.
RUN echo "import fs from 'node:fs'; \
    for (const name of fs.readdirSync('/lifeboat/dist')) await import('/lifeboat/dist/' + name).catch(() => undefined);" \
    >/tmp/load-all.mjs \
  && sed 's#/lifeboat/dist/cli.js "$@"#/tmp/load-all.mjs#' /usr/local/bin/lifeboat >/tmp/load-all \
  && for command in backup status; do lifeboat $command --help && sh /tmp/load-all $command; done >/dev/null \
  && rm /tmp/load-all.mjs /tmp/load-all
VOLUME /spool
# The daemon touches the file every half minute; `find` says nothing about one that is missing or older than two minutes.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD test -n "$(find /run/lifeboat/alive -mmin -2)"
ENTRYPOINT ["lifeboat"]
CMD ["daemon"]
