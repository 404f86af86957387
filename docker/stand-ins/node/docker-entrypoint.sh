#!/bin/sh
# Runs a command if the first argument is one, and hands everything else to node, as the official image does.
set -e
case ${1:-} in
  -*) exec node "$@" ;;
esac
if [ -n "${1:-}" ] && ! command -v "$1" >/dev/null 2>&1; then
  exec node "$@"
fi
exec "$@"
