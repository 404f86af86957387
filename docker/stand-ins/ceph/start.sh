#!/usr/bin/env bash
# Starts a Ceph of one machine, in memory, and becomes its S3 gateway on port 7480. A restart begins empty.
#   S3_ACCESS_KEY, S3_SECRET_KEY   the one user's keys               (testaccess, testsecretkey)
#   S3_STORAGE_CLASSES             classes besides STANDARD          (STANDARD_IA GLACIER)
#   S3_LIFECYCLE_DAY               seconds that lifecycle rules take for a day; -1 for a real day
#   S3_DOMAIN                      host name for bucket.host addressing
#   S3_BYTES                       how much it may hold              (4 GiB)
set -euo pipefail

access_key=${S3_ACCESS_KEY:-testaccess}
secret_key=${S3_SECRET_KEY:-testsecretkey}
storage_classes=${S3_STORAGE_CLASSES-STANDARD_IA GLACIER}
fsid=$(cat /proc/sys/kernel/random/uuid)
keyring=/etc/ceph/keyring
monitor=v2:127.0.0.1:3300

write_config() {
  # One copy of everything is enough, and `paxos propose interval` makes the monitor answer at once instead of after a second.
  cat > /etc/ceph/ceph.conf <<CONF
[global]
fsid = $fsid
mon host = $monitor
public network = 127.0.0.0/8
keyring = $keyring
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
log file = /var/log/ceph/\$name.log
log to stderr = false

paxos propose interval = 0.02
paxos min wait = 0.01
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail warn = 1
mon data avail crit = 1

osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
osd max object name len = 2048
memstore device bytes = ${S3_BYTES:-4294967296}

[client.rgw.s3]
rgw frontends = beast endpoint=0.0.0.0:7480
rgw dns name = ${S3_DOMAIN:-}
rgw relaxed s3 bucket names = true
rgw crypt require ssl = false
rgw lc debug interval = ${S3_LIFECYCLE_DAY:--1}
rgw thread pool size = 64
CONF
}

create_keys() {
  local name
  rm -f "$keyring"
  ceph-authtool --create-keyring "$keyring" --gen-key -n mon. --cap mon 'allow *'
  for name in client.admin client.rgw.s3 osd.0; do
    ceph-authtool "$keyring" --gen-key -n "$name" --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
  done
}

start_monitor() {
  monmaptool --create --clobber --addv a "[$monitor/0]" --fsid "$fsid" /tmp/monmap
  ceph-mon --mkfs -i a --monmap /tmp/monmap --keyring "$keyring" --setuser root --setgroup root
  ceph-mon -i a --setuser root --setgroup root
}

start_storage() {
  local uuid
  uuid=$(cat /proc/sys/kernel/random/uuid)
  ceph osd new "$uuid" 0
  ceph-osd -i 0 --mkfs --osd-uuid "$uuid" --no-mon-config
  ceph-osd -i 0 --setuser root --setgroup root
}

create_user() {
  local class
  radosgw-admin user create --uid=test --display-name=test --access-key="$access_key" --secret-key="$secret_key"
  for class in $storage_classes; do
    radosgw-admin zonegroup placement add --rgw-zonegroup default --placement-id default-placement --storage-class "$class"
    radosgw-admin zone placement add --rgw-zone default --placement-id default-placement --storage-class "$class" \
      --data-pool "default.rgw.${class,,}.data"
  done
}

# What the tools print is of use only when one of them fails. A good start ends in exec, which skips this.
trap 'echo "start-s3: $step failed" >&2; tail -n 40 /tmp/start.log >&2' EXIT

rm -rf /var/lib/ceph/mon/ceph-a /var/lib/ceph/osd/ceph-0
mkdir -p /etc/ceph /var/lib/ceph/mon/ceph-a /var/lib/ceph/osd/ceph-0 /var/run/ceph /var/log/ceph
step=write_config
write_config
for step in create_keys start_monitor start_storage create_user; do
  "$step" > /tmp/start.log 2>&1
done
echo 'start-s3: the gateway starts on port 7480'
exec radosgw -f -n client.rgw.s3 --setuser root --setgroup root
