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

# The programs that Lifeboat runs, without those that only install or build: npm and corepack, apt, the symbols of node,
# the character sets of iconv, the modules of perl, and time zones, which Node has itself. The list of packages stays,
# for scanners.
FROM node:24-trixie-slim AS system
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends zstd gpg gpg-agent binutils \
  && strip /usr/local/bin/node \
  && apt-get purge -y --auto-remove binutils \
  && rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack \
    /usr/local/bin/yarn /usr/local/bin/yarnpkg /opt/yarn* /usr/local/include /usr/local/share/doc /usr/local/share/man \
  && dpkg --purge --force-depends --force-remove-essential apt libapt-pkg7.0 sqv \
  && rm -rf /var/lib/apt /var/cache/* /var/log/* /var/lib/dpkg/info /tmp/* \
    /usr/lib/*-linux-gnu/gconv /usr/share/man /usr/share/info /usr/share/locale /usr/share/bash-completion \
    /usr/share/zoneinfo /usr/share/perl5 /usr/lib/*-linux-gnu/perl-base /usr/bin/pzstd /usr/bin/localedef \
  && find /usr/share/doc -type f -not -name copyright -delete

FROM scratch
COPY --from=system / /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /lifeboat
COPY --from=build /srv/node_modules ./licenses
COPY --from=build /build/dist ./dist
COPY package.json LICENSE ./
COPY docker/lifeboat /usr/local/bin/lifeboat
# `lifeboat init` writes this name into Compose files.
ARG IMAGE=lifeboat:latest
ENV NODE_ENV=production NODE_COMPILE_CACHE=/lifeboat/compile-cache IMAGE_REFERENCE=$IMAGE
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
ARG VERSION=0.1.0
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="Lifeboat" \
  org.opencontainers.image.description="Backs up the Postgres databases and volumes of a Docker Compose project" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION" \
  org.opencontainers.image.source="$SOURCE"
