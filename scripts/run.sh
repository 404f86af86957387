#!/usr/bin/env bash
# What npm run demo, npm test, npm run test:unit, npm run test:e2e and npm run bench do, on a bare clone too: installs the dependencies
# when they are not those of the lock file, sets up what is missing on the machine, and runs with the project's own Node.
set -euo pipefail
cd "$(dirname "$0")/.."

install_dependencies() {
  # Whoever ran npm ci, node_modules then says what it holds.
  if [ -x node_modules/.bin/node ] && node scripts/lib/installed.mjs; then return; fi
  if [ -n "${LIFEBOAT_TEST_NO_INSTALL:-}" ]; then
    echo "set-up: node_modules is missing or old, and LIFEBOAT_TEST_NO_INSTALL is set; run npm ci" >&2
    exit 1
  fi
  echo "set-up: installing npm packages into node_modules" >&2
  npm ci --no-fund --no-audit --loglevel=error >&2
}

build_image() {
  echo "set-up: building the Lifeboat image" >&2
  docker build --quiet --tag "$1" . >/dev/null
}

node() {
  command node_modules/.bin/node --disable-warning=ExperimentalWarning "$@"
}

vitest() {
  node node_modules/vitest/vitest.mjs run "$@"
}

what=${1:?usage: run.sh demo|test|unit|e2e|bench}
shift
install_dependencies
case $what in
  unit)
    scripts/setup.sh tools
    vitest --project unit "$@"
    ;;
  test)
    scripts/setup.sh test
    build_image lifeboat:test &
    build=$!
    trap 'kill "$build" 2>/dev/null || true' EXIT
    node_modules/.bin/biome check .
    node_modules/.bin/tsc --noEmit
    wait "$build"
    trap - EXIT
    node test/harness/run-all.ts "$@"
    ;;
  e2e)
    # Words before options select files of test/e2e: `restore` runs every file whose name begins with it.
    scripts/setup.sh test
    build_image lifeboat:test
    areas=()
    while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do areas+=("test/e2e/$1"); shift; done
    vitest --project real "${areas[@]:-test/e2e/}" "$@"
    ;;
  demo)
    case " $* " in *' --off-site '*) scripts/setup.sh demo ceph ;; *) scripts/setup.sh demo ;; esac
    build_image lifeboat:demo
    node docker/demo/demo.ts "$@"
    ;;
  bench)
    scripts/setup.sh demo ceph rivals
    build_image lifeboat:bench
    node bench/bench.ts "$@"
    ;;
  *)
    echo "run.sh: no such thing: $what" >&2
    exit 2
    ;;
esac
