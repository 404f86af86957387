#!/bin/sh
# Runs the first argument if it is a command, and hands everything else to node, as the official image does.
set -e

is_command() {
  case $1 in
    '') return 0 ;; # no argument at all: exec does nothing
    -*) return 1 ;;
  esac
  # some shells' `command -v` accepts a path that isn't executable
  if [ -f "$1" ] && [ ! -x "$1" ]; then return 1; fi
  command -v "$1" >/dev/null 2>&1
}

is_command "${1:-}" || set -- node "$@"
exec "$@"
