#!/usr/bin/env bash
# Prints the section of CHANGELOG.md about a version, without its heading: release-notes.sh VERSION
# In a workflow of GitHub, links to files of the repository become absolute: a release has no files next to it.
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
if [[ -n ${GITHUB_REPOSITORY:-} ]]; then
  base=${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY/blob/v$version
  # Links with a colon are absolute, and those with # at the start lead to the notes themselves.
  notes=$(sed -E "s,\]\(([^):#][^):]*)\),](${base//,/\\,}/\1),g" <<< "$notes")
fi
printf '%s\n' "$notes" | sed '/./,$!d'
