#!/bin/sh
# Makes a root file system in which BusyBox is every tool, and its ash is sh.
#   root.sh DIRECTORY
set -eu

root=$1
mkdir -p "$root/bin" "$root/sbin" "$root/usr/bin" "$root/usr/sbin" "$root/usr/local/bin" \
  "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/home" "$root/var/lib"
install -d -m 700 "$root/root"
install -d -m 1777 "$root/tmp" "$root/var/tmp"
ln -s ../run "$root/var/run"
cp "$(command -v busybox)" "$root/bin/busybox"
chroot "$root" /bin/busybox --install -s

cat > "$root/etc/passwd" << 'PASSWD'
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/sbin/nologin
PASSWD
cat > "$root/etc/group" << 'GROUP'
root:x:0:root
nobody:x:65534:
GROUP
