#!/usr/bin/env bash
# Writes the owner of the repository into every file that leaves it open as ${OWNER}: set-owner.sh OWNER
set -euo pipefail
cd "$(dirname "$0")/.."

owner=${1:?usage: set-owner.sh OWNER}
[[ $owner =~ ^[A-Za-z0-9][A-Za-z0-9-]*$ ]] || { echo "set-owner.sh: not the name of an owner: $owner" >&2; exit 2; }
lower=${owner,,}
for file in package.json *.md *.yml docs/*.md docs/*/*.md .github/ISSUE_TEMPLATE/*.yml; do
  # The name of an image has lower-case letters only.
  sed -i -e "s#ghcr\.io/\${OWNER}#ghcr.io/$lower#g" -e "s#\${OWNER}#$owner#g" "$file"
done
