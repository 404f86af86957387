# shellcheck shell=bash disable=SC2154 # variables of the other parts
# Part of scripts/setup.sh: images, pulled where a registry answers, else built from Debian's and npm's packages.
# How each stand-in is made is in docker/stand-ins.

stand_ins=$root/docker/stand-ins

# --- what there is ------------------------------------------------------------------------------------------------
# An item is a word of the command line (node, ceph, postgres-17, postgres-17-alpine), or `debian-SUITE` for the bases of the stand-ins.

tag_of() {
  case $1 in
    node) echo node:24-trixie-slim ;;
    postgres-*) echo "postgres:${1#postgres-}" ;;
    alpine) echo alpine:3 ;;
    ceph) echo lifeboat-test/rgw:latest ;;
    debian-*) echo "debian:${1#debian-}-slim" ;;
  esac
}

# the Debian release whose own packages have that Postgres
suite_of() {
  case $1 in
    debian-*) echo "${1#debian-}" ;;
    postgres-13) echo bullseye ;;
    postgres-15) echo bookworm ;;
    postgres-18) echo sid ;;
    *) echo trixie ;;
  esac
}

# A hash of all that goes into a stand-in. Only `debian` and `node` hold anything of this machine (its mirror, its
# proxies, its own certificate authorities): with a Postgres that is built, nobody installs packages.
recipe_of() {
  {
    echo "$1" "$(suite_of "$1")"
    cat "$stand_ins"/base/*
    case $1 in
      debian-*) host_network ;;
      node) host_network; cat "$stand_ins"/node/* ;;
      alpine) cat "$stand_ins"/alpine/* ;;
      postgres-*-alpine) cat "$stand_ins"/alpine/* "$stand_ins"/postgres/docker-entrypoint.sh ;;
      postgres-*) cat "$stand_ins"/postgres/* ;;
      ceph) cat "$stand_ins"/ceph/* ;;
    esac
  } | sha256sum | cut -c 1-16
}

# missing, real (pulled, or made by the user), current or outdated (a stand-in)
state_of() {
  local recipe
  recipe=$(docker image inspect --format '{{with .Config}}{{index .Labels "stand-in.recipe"}}{{end}}' "$(tag_of "$1")" 2> /dev/null) \
    || { echo missing; return; }
  case $recipe in
    '' | '<no value>') echo real ;;
    "$(recipe_of "$1")") echo current ;;
    *) echo outdated ;;
  esac
}

# --- what to do about it ------------------------------------------------------------------------------------------

ensure_images() { # ITEM…
  local item bases=() images=()
  readarray -t images < <(still_to_build "$@")
  [[ ${#images[@]} != 0 ]] || return 0
  for item in "${images[@]}"; do
    bases+=("debian-$(suite_of "$item")")
  done
  readarray -t bases < <(printf '%s\n' "${bases[@]}" | sort -u)
  readarray -t bases < <(still_to_build "${bases[@]}")
  need_root "images $(printf '%s ' "${images[@]}")and a registry to pull them from" 'Make a registry reachable'
  if [[ ${#bases[@]} != 0 ]]; then
    ensure_programs mmdebstrap
    # Ubuntu has mmdebstrap, but not the keys of Debian. Without them, apt refuses Debian's packages (NO_PUBKEY).
    [[ -f $debian_keyring ]] || apt_install debian-archive-keyring
    apt_update
    two_at_a_time build_base "${bases[@]}"
  fi
  two_at_a_time build_image "${images[@]}"
}

# Pulls what it can of these, and prints the others.
still_to_build() { # ITEM…
  local item
  for item; do
    case $(state_of "$item") in real | current) continue ;; esac
    [[ $item != ceph ]] && pull "$(tag_of "$item")" || echo "$item"
  done
}

two_at_a_time() { # FUNCTION ITEM…
  local function=$1 item builds=()
  shift
  for item; do
    while (( $(jobs -pr | wc -l) >= 2 )); do wait -n || :; done
    # a subshell of its own, not `… || …`, in which bash would go on after a failed step
    (set -e; SECONDS=0; "$function" "$item"; touch "$work/built-$item"; say "built $(tag_of "$item") ($SECONDS s)") &
    builds+=($!)
  done
  # by name: a bare `wait` would also wait for a dockerd that this script started
  wait "${builds[@]}" || :
  for item; do
    [[ -e $work/built-$item ]] || fail "could not build $(tag_of "$item")"
  done
}

# --- pulling ------------------------------------------------------------------------------------------------------

# A registry that is there says where it pulls from within seconds; the layers may then take as long as they need.
# The first image that can't be pulled is taken for all: without a registry, asking again would only cost time.
pull() { # TAG
  [[ ! -e $work/no-registry ]] || return 1
  local log=$work/pull.log pid try
  : > "$log"
  docker pull "$1" > "$log" 2>&1 < /dev/null &
  pid=$!
  for (( try = 0; try < 200; try++ )); do
    if ! kill -0 "$pid" 2> /dev/null || grep -q 'Pulling from' "$log"; then break; fi
    sleep 0.1
  done
  if grep -q 'Pulling from' "$log"; then
    say "pulling $1"
  else
    kill "$pid" 2> /dev/null || :
  fi
  if wait "$pid"; then return; fi
  say 'no image can be pulled here, so images are built from Debian packages'
  touch "$work/no-registry"
  return 1
}

# --- building -----------------------------------------------------------------------------------------------------

build_base() { # debian-SUITE
  local tag suite mirror source=
  tag=$(tag_of "$1")
  suite=$(suite_of "$1")
  mirror=$(debian_mirror)
  [[ -z $mirror ]] || source="deb $mirror $suite main"
  host_apt_options > "$work/$1.conf"
  say "building $tag"
  quietly "$1" import_base "$tag" "$(recipe_of "$1")" "$suite" "$work/$1.conf" "$source"
}

import_base() { # TAG RECIPE SUITE APT_CONF SOURCE_LINE
  "$stand_ins/base/bootstrap.sh" "$3" "$4" "$5" \
    | docker import --change 'CMD ["bash"]' \
      --change "LABEL org.opencontainers.image.title=\"stand-in for $1\" stand-in.recipe=$2" - "$1"
}

build_image() { # ITEM
  local tag context=$work/context-$1 arguments=()
  tag=$(tag_of "$1")
  say "building $tag"
  mkdir "$context"
  case $1 in
    node)
      cp -a "$stand_ins/node/." "$context/"
      gather_node "$context/root"
      arguments=(--build-arg "NODE_VERSION=$(node_version "$context/root")")
      ;;
    alpine | postgres-*-alpine)
      cp -a "$stand_ins/alpine/." "$stand_ins/postgres/docker-entrypoint.sh" "$context/"
      readarray -t arguments < <(alpine_arguments "$1" "$(suite_of "$1")")
      ;;
    postgres-*)
      cp -a "$stand_ins/postgres/." "$context/"
      readarray -t arguments < <(postgres_arguments "${1#postgres-}" "$(suite_of "$1")")
      ;;
    *) cp -a "$stand_ins/$1/." "$context/" ;;
  esac
  quietly "$1" docker build --tag "$tag" \
    --label "org.opencontainers.image.title=stand-in for $tag" --label "stand-in.recipe=$(recipe_of "$1")" \
    "${arguments[@]}" "$context"
  rm -rf "$context"
}

postgres_arguments() { # MAJOR SUITE
  local data=/var/lib/postgresql/data volume=/var/lib/postgresql/data
  if (( $1 >= 18 )); then
    data=/var/lib/postgresql/$1/docker volume=/var/lib/postgresql
  fi
  printf -- '--build-arg\n%s\n' "MAJOR=$1" "SUITE=$2" "DATA=$data" "DATA_VOLUME=$volume"
}

alpine_arguments() { # ITEM SUITE
  local target=alpine major=${1//[!0-9]/}
  [[ $1 == alpine ]] || target=postgres
  printf '%s\n' --target "$target" --build-arg "SUITE=$2"
  [[ $target == alpine ]] || printf '%s\n' --build-arg "MAJOR=$major"
}

# --- Node out of npm's packages -----------------------------------------------------------------------------------

gather_node() { # ROOT
  local usr=$1/usr/local architecture packages=$work/npm
  has npm || fail 'building node:24-trixie-slim needs npm on this machine; install nodejs and npm'
  case $(docker version --format '{{.Server.Arch}}') in
    amd64) architecture=x64 ;;
    arm64) architecture=arm64 ;;
    *) fail 'there is no stand-in for node:24-trixie-slim on this architecture' ;;
  esac
  mkdir -p "$packages/node" "$packages/npm" "$usr/bin" "$usr/lib/node_modules/npm" "$usr/etc"
  npm_package "node-linux-$architecture@24" "$packages/node"
  npm_package npm@11 "$packages/npm"
  cp "$packages/node/package/bin/node" "$usr/bin/node"
  cp -a "$packages/npm/package/." "$usr/lib/node_modules/npm/"
  chmod 755 "$usr/bin/node" "$usr/lib/node_modules/npm/bin"/*.js
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$usr/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$usr/bin/npx"
  chown -R 0:0 "$1"
  host_trust "$1"
}

npm_package() { # NAME@RANGE FOLDER
  (cd "$2" && quietly "npm-pack-${2##*/}" npm pack --silent "$1")
  tar -xzf "$2"/*.tgz -C "$2"
}

node_version() { # ROOT
  "$1/usr/local/bin/node" --version | tr -d v
}

# --- what a container needs of this machine to reach its registries -----------------------------------------------
# A build in a container gets at packages by the same road as this machine: through its mirror and proxy, trusting the
# certificate authorities it trusts. Only stand-ins get this; the product's Dockerfile knows nothing of it.

host_apt_options() {
  apt-config dump | grep -E '^Acquire::((https?|ftp)::Proxy|Check-Valid-Until|Check-Date)' || :
}

host_authorities() { find /usr/local/share/ca-certificates -name '*.crt' 2> /dev/null | sort; }

host_network() {
  local certificates
  readarray -t certificates < <(host_authorities)
  ! has apt-config || host_apt_options
  [[ ${#certificates[@]} == 0 ]] || cat "${certificates[@]}"
}

host_trust() { # ROOT
  local folder=$1/usr/local/share/ca-certificates bundle
  mkdir -p "$folder"
  # when a build installs the package ca-certificates, that takes these in
  host_authorities | while read -r certificate; do cp "$certificate" "$folder/"; done
  # from `/`, so that no project's .npmrc speaks; never a token
  (cd / && npm config get registry proxy https-proxy 2> /dev/null) | grep -v '=null$' > "$1/usr/local/etc/npmrc" || :
  bundle=$(host_bundle)
  if [[ -n $bundle ]]; then
    cp "$bundle" "$1/usr/local/etc/npm-authorities.pem"
    echo 'cafile=/usr/local/etc/npm-authorities.pem' >> "$1/usr/local/etc/npmrc"
  fi
}

# npm takes `cafile` instead of the authorities that Node brings, so this is a complete list; none where nothing is special
host_bundle() {
  local file
  file=$(cd / && npm config get cafile 2> /dev/null) || file=
  [[ -s $file ]] || file=${NODE_EXTRA_CA_CERTS:-}
  if [[ ! -s $file && -n $(host_authorities) ]]; then file=/etc/ssl/certs/ca-certificates.crt; fi
  [[ ! -s $file ]] || echo "$file"
}
