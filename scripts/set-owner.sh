#!/usr/bin/env bash
# Writes the owner of the repository into every file that leaves it open as OWNER: set-owner.sh NAME
set -euo pipefail
cd "$(dirname "$0")/.."

owner=${1:?usage: set-owner.sh NAME}
[[ $owner =~ ^[A-Za-z0-9][A-Za-z0-9-]*$ ]] || { echo "set-owner.sh: not the name of an owner: $owner" >&2; exit 2; }
lower=${owner,,}
for file in package.json *.md *.yml docs/*.md docs/*/*.md .github/ISSUE_TEMPLATE/*.yml; do
  # Only in the two addresses, because SQL has the word too. The name of an image has lower-case letters only. The lines
  # that say what to write for OWNER go.
  sed -i -E -e "s#ghcr\.io/OWNER/#ghcr.io/$lower/#g" -e "s#(github\\\\?\.com/)OWNER/#\1$owner/#g" \
    -e '/Replace .?OWNER.? by /d' "$file"
done
