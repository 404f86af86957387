#!/bin/sh
# Collects the programs that postgres:MAJOR-alpine has in addition to Alpine, with the libraries that they load.
# The real image has bash, for its entry point, and neither Perl nor any GNU tool. The compiler of JIT is left out.
#   gather.sh MAJOR DIRECTORY
set -eu

major=$1 root=$2
server=/usr/lib/postgresql/$major share=/usr/share/postgresql/$major

libraries_of() { # FILE…
  ldd "$@" 2> /dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// && $2 ~ /^\(/ { print $1 }' | sort -u
}

# The server looks for its modules in ../lib
mkdir -p "$root/usr/local/bin" "$root/usr/local/lib" "$root/bin"
cp "$server"/bin/* "$(command -v gosu)" "$root/usr/local/bin/"
cp /bin/bash "$root/bin/"
cp -a --parents "$share" /usr/share/postgresql-common /usr/share/zoneinfo /usr/lib/locale/C.utf8 "$(command -v zstd)" "$root"
find "$server/lib" -maxdepth 1 -name '*.so' ! -name 'llvm*' -exec cp {} "$root/usr/local/lib/" \;
# shellcheck disable=SC2046 # paths of libraries contain no blanks
cp -L --parents $(libraries_of "$root"/usr/local/bin/* "$root/bin/bash" "$(command -v zstd)" "$root"/usr/local/lib/*.so) "$root"
