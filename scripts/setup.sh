#!/usr/bin/env bash
# Makes this machine able to run the demo and the tests: host programs, a Docker engine, images.
# For each it asks, in this order: is it there, can it be pulled, can it be built from Debian's and npm's packages.
# It leaves alone everything that is there already, so running it again is quick and quiet.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/common.sh
. "$root/scripts/lib/common.sh"
# shellcheck source=scripts/lib/engine.sh
. "$root/scripts/lib/engine.sh"
# shellcheck source=scripts/lib/images.sh
. "$root/scripts/lib/images.sh"

usage() {
  cat <<'TEXT'
usage: scripts/setup.sh [WHAT…]

  tools         programs that the tests run on this machine: zstd, age, gpg, unzip, jq, python3
  shells        shells for which there are completion scripts: zsh, fish
  engine        Docker Engine and Docker Compose
  node          image node:24-trixie-slim
  postgres-N    image postgres:N, for N of 13, 15, 17, 18, 17-alpine
  alpine        image alpine:3
  ceph          image lifeboat-test/rgw, an S3 server for the tests
  linters       programs that check the scripts: shellcheck
  watchers      programs that look at the page and the metrics in the tests: chromium, prometheus
  rivals        programs that the benchmarks compare with: restic, rclone

  demo          tools engine node postgres-17 (what you get without WHAT)
  test          demo and shells linters watchers postgres-13 postgres-15 postgres-18 postgres-17-alpine alpine ceph

It says what is missing, then installs it when run as root, and otherwise says what to install. With
LIFEBOAT_TEST_NO_INSTALL=1 it installs nothing, and fails if something is missing. DOCKER_HOST and DOCKER_CONFIG are
honoured.
TEXT
}

items_of() {
  case $1 in
    demo) echo tools engine node postgres-17 ;;
    test) echo tools shells linters watchers engine node postgres-17 postgres-13 postgres-15 postgres-18 postgres-17-alpine alpine ceph ;;
    tools | shells | linters | watchers | engine | rivals | node | alpine | ceph) echo "$1" ;;
    postgres-13 | postgres-15 | postgres-17 | postgres-17-alpine | postgres-18) echo "$1" ;;
    *) return 1 ;;
  esac
}

# Says what is missing before anything is installed. `programs`, `images` and `engine` are those of main.
announce() {
  local program item missing=()
  for program in "${programs[@]}"; do
    has "$program" || missing+=("Debian package $(package_of "$program")")
  done
  if [[ -n $engine ]] && ! engine_answers; then
    if has dockerd; then missing+=('a Docker engine that runs'); else missing+=('Debian package docker.io, and its engine started'); fi
    for item in "${images[@]}"; do missing+=("image $(tag_of "$item")"); done
  elif [[ -n $engine ]]; then
    for item in compose buildx; do plugin_answers "$item" || missing+=("Docker plugin $item"); done
    for item in "${images[@]}"; do
      case $(state_of "$item") in missing | outdated) missing+=("image $(tag_of "$item")") ;; esac
    done
  fi
  (( ${#missing[@]} > 0 )) || return 0
  say 'this machine lacks:'
  printf '  %s\n' "${missing[@]}" >&2
  [[ -z ${LIFEBOAT_TEST_NO_INSTALL:-} ]] || fail 'nothing is installed, because LIFEBOAT_TEST_NO_INSTALL is set'
  say 'installing them. LIFEBOAT_TEST_NO_INSTALL=1 prevents that'
}

main() {
  local word item items wanted=() images=() programs=() engine='' prometheus=''
  for word in "${@:-demo}"; do
    case $word in -h | --help) usage; return ;; esac
    items=$(items_of "$word") || { usage >&2; fail "don't know '$word'"; }
    read -ra items <<< "$items"
    wanted+=("${items[@]}")
  done
  for item in "${wanted[@]}"; do
    case $item in
      tools) programs+=("${tools[@]}") ;;
      watchers) programs+=(chromium); prometheus=yes ;;
      shells) programs+=(zsh fish) ;;
      linters) programs+=(shellcheck) ;;
      rivals) programs+=(restic rclone) ;;
      engine) engine=yes ;;
      *) engine=yes; [[ " ${images[*]-} " == *" $item "* ]] || images+=("$item") ;;
    esac
  done
  one_at_a_time
  announce
  [[ ${#programs[@]} == 0 ]] || ensure_programs "${programs[@]}"
  [[ -z $prometheus ]] || ensure_prometheus
  [[ -z $engine ]] || ensure_engine
  [[ ${#images[@]} == 0 ]] || ensure_images "${images[@]}"
}

main "$@"
