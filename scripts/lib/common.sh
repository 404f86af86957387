# shellcheck shell=bash
# Part of scripts/setup.sh: talking, waiting for others, and Debian packages.

# shellcheck disable=SC2034 # setup.sh reads it
tools=(zstd age gpg unzip jq python3)

# the keys with which Debian signs its packages
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# scratch space for this run, and logs of what it runs
work=$(mktemp -d "${TMPDIR:-/tmp}/lifeboat-setup.XXXXXX")
trap 'rm -rf "$work"' EXIT

say() { printf 'set-up: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

has() { command -v "$1" > /dev/null 2>&1; }

# Runs a command silently; its output is shown only when it fails.
quietly() { # NAME COMMAND…
  local log=$work/$1.log status=0
  shift
  "$@" > "$log" 2>&1 < /dev/null || status=$?
  if (( status != 0 )); then
    say "this failed: $1 ${2-} ${3-}"
    tail -n 25 "$log" >&2
  fi
  return "$status"
}

# Says what to do by hand where this script may not, or cannot, do it itself.
need_root() { # WHAT HOW
  (( EUID == 0 )) || fail "missing: $1. $2, or run this script as root"
  has apt-get || fail "missing: $1. $2; this script can install it only where there is apt-get"
}

# Two set-ups at once would build the same image twice, and the second can use what the first makes.
one_at_a_time() {
  has flock || return 0
  local lock=/tmp/lifeboat-setup-$EUID.lock
  exec {lock_fd}>> "$lock" || return 0
  flock --nonblock "$lock_fd" && return
  say 'waiting for another set-up to finish'
  flock "$lock_fd"
}

apt_is_fresh=
apt_update() {
  [[ -z $apt_is_fresh ]] || return 0
  quietly apt-update apt-get update
  apt_is_fresh=yes
}

apt_install() { # PACKAGE…
  apt_update
  say "installing $*"
  quietly apt-install env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

package_of() {
  case $1 in
    gpg) echo gnupg ;;
    *) echo "$1" ;;
  esac
}

ensure_programs() { # PROGRAM…
  local program packages=()
  for program in "$@"; do
    has "$program" || packages+=("$(package_of "$program")")
  done
  [[ ${#packages[@]} != 0 ]] || return 0
  need_root "${packages[*]}" "Install with: apt-get install ${packages[*]}"
  apt_install "${packages[@]}"
}

# Takes the programs out of the package: installed as a package, Prometheus would run as a service of this machine.
ensure_prometheus() {
  if has prometheus && has promtool; then return; fi
  need_root prometheus 'Put prometheus and promtool into the path'
  apt_update
  say 'installing prometheus and promtool into /usr/local/bin'
  mkdir -p "$work/prometheus"
  (cd "$work/prometheus" && quietly prometheus apt-get download prometheus && dpkg-deb -x prometheus_*.deb .)
  install -m 755 "$work/prometheus/usr/bin/prometheus" "$work/prometheus/usr/bin/promtool" /usr/local/bin/
}

# The address of the Debian mirror that this machine is configured to use; nothing where it isn't a Debian.
debian_mirror() {
  # shellcheck disable=SC2016 # apt fills these in
  apt-get indextargets --format '$(LABEL)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' \
    | awk -F'|' '$1 == "Debian" && $2 == "main" { print $3; exit }'
}
