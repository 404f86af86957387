#!/usr/bin/env bash
# Prints the section of CHANGELOG.md about a version, without its heading: release-notes.sh VERSION
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:?usage: release-notes.sh VERSION}
notes=$(awk -v heading="## [$version]" '
  /^## / { found = index($0, heading) == 1; next }
  /^\[/ { next }
  found { print }
' CHANGELOG.md)
if [[ -z ${notes//[[:space:]]/} ]]; then
  echo "release-notes.sh: CHANGELOG.md has no section \"## [$version]\"" >&2
  exit 1
fi
printf '%s\n' "$notes" | sed '/./,$!d'
