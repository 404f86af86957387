#!/usr/bin/env bash
# Writes a minimal Debian as a tar stream to stdout.
#   bootstrap.sh SUITE [APT_CONF [SOURCE_LINE]]
# APT_CONF is kept in the image; without SOURCE_LINE, mmdebstrap takes its own default.
set -euo pipefail

suite=$1 apt_conf=${2:-/dev/null} source_line=${3:-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Excluding paths while mmdebstrap extracts costs it ten seconds; deleting them afterwards costs nothing.
# shellcheck disable=SC2016 # mmdebstrap's shell fills in $1
tidy='rm -f "$1"/var/cache/apt/*.bin; cd "$1/usr/share" && rm -rf man/* doc/* info/* locale/*'
# shellcheck disable=SC2016
configure='cp "'$here'/apt.conf" "$1/etc/apt/apt.conf.d/50container" && cp "'$here'/dpkg.cfg" "$1/etc/dpkg/dpkg.cfg.d/container"'

exec mmdebstrap --variant=minbase \
  --aptopt='Acquire::Check-Valid-Until "false"' \
  --aptopt='Acquire::Languages "none"' \
  --aptopt="$apt_conf" \
  --customize-hook="$tidy" \
  --customize-hook="$configure" \
  "$suite" - ${source_line:+"$source_line"}
