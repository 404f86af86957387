# shellcheck shell=bash disable=SC2154 # variables of the other parts
# Part of scripts/setup.sh: a Docker engine that answers, with Compose.

daemon_log=/var/log/lifeboat-dockerd.log

ensure_engine() {
  if ! engine_answers; then
    # someone chose an engine: starting another one would not be what they asked for
    case ${DOCKER_HOST:-} in
      '' | unix:///var/run/docker.sock | unix:///run/docker.sock) ;;
      *) fail "the engine at DOCKER_HOST=$DOCKER_HOST does not answer this user; start it, or unset DOCKER_HOST" ;;
    esac
    need_root 'a Docker engine that answers' \
      'Install and start Docker Engine (on Debian: apt-get install docker.io) and join the group docker'
    install_engine
    start_engine
  fi
  ensure_plugins
}

engine_answers() {
  has docker && timeout 10 docker version --format '{{.Server.Version}}' > /dev/null 2>&1
}

install_engine() {
  has dockerd || apt_install docker.io
  # from trixie on, the client is a package of its own
  has docker || apt_install docker-cli
}

start_engine() {
  # with systemd, installing the package has started it, or this does
  if [[ -d /run/systemd/system ]]; then
    quietly start-engine systemctl start docker
    wait_for_engine
    return
  fi
  say "starting dockerd, logging to $daemon_log"
  forget_dead_process /var/run/docker.pid dockerd
  forget_dead_process /var/run/docker/containerd/containerd.pid containerd
  # It outlives this script, so it must not keep this script's lock nor its directory.
  local daemon
  (cd / && exec {lock_fd}>&- && exec nohup setsid dockerd >> "$daemon_log" 2>&1 < /dev/null) &
  daemon=$!
  disown "$daemon" # no job of ours: it stays
  wait_for_engine "$daemon"
}

# A pid file left by a machine that was switched off may by now name some other process, which keeps dockerd from starting.
forget_dead_process() { # PID_FILE NAME
  [[ -s $1 ]] || return 0
  local name
  name=$(cat "/proc/$(< "$1")/comm" 2> /dev/null) || name=
  [[ $name == "$2" ]] || rm -f "$1"
}

wait_for_engine() { # [PID]
  local try
  for (( try = 0; try < 240; try++ )); do
    if engine_answers; then return; fi
    if [[ -n ${1:-} ]] && ! kill -0 "$1" 2> /dev/null; then
      tail -n 5 "$daemon_log" >&2
      fail 'dockerd ended'
    fi
    sleep 0.25
  done
  fail "the Docker engine was started but does not answer; see $daemon_log"
}

# --- Compose and buildx -------------------------------------------------------------------------------------------

# Compose is needed. Buildx is wanted: without it `docker build` falls back to the classic builder and complains.
ensure_plugins() {
  local missing=()
  plugin_answers compose || missing+=(compose)
  plugin_answers buildx || missing+=(buildx)
  case "${missing[*]-}" in
    '') return ;;
    buildx) (( EUID == 0 )) && has apt-get || return 0 ;;
    *) need_root 'Docker Compose' 'Install the Compose plugin' ;;
  esac
  apt_update
  local mirror
  mirror=$(debian_mirror)
  if [[ -z $mirror ]]; then
    [[ ${missing[*]} == buildx ]] || fail 'missing: Docker Compose. Install the Compose plugin'
    return 0
  fi
  install_plugins "$mirror" "${missing[@]}"
}

plugin_answers() { docker "$1" version > /dev/null 2>&1; }

# Debian 12 has Compose 1 only. Debian 13's plugins run on it, so they are taken out of their packages, and no package
# of another suite gets near this machine's own apt configuration.
install_plugins() { # MIRROR PLUGIN…
  local mirror=$1 folder plugin
  shift
  folder=$(plugin_folder)
  say "installing Docker plugins $* into $folder"
  private_apt "$mirror"
  mkdir -p "$folder" "$work/plugins"
  APT_CONFIG=$work/apt/apt.conf quietly plugins-update apt-get update
  for plugin; do
    (cd "$work/plugins" && APT_CONFIG=$work/apt/apt.conf quietly "plugin-$plugin" apt-get download "docker-$plugin")
    dpkg-deb -x "$work/plugins/docker-$plugin"_*.deb "$work/plugins"
    install -m 755 "$work/plugins/usr/libexec/docker/cli-plugins/docker-$plugin" "$folder/"
    plugin_answers "$plugin" || fail "the plugin $folder/docker-$plugin does not run"
  done
}

# A DOCKER_CONFIG that is set is somebody's own world; without one, install for everyone, whatever theirs will be.
plugin_folder() {
  if [[ -n ${DOCKER_CONFIG:-} ]]; then
    echo "$DOCKER_CONFIG/cli-plugins"
  else
    echo /usr/local/lib/docker/cli-plugins
  fi
}

private_apt() { # MIRROR
  local apt=$work/apt signed=''
  [[ ! -f $debian_keyring ]] || signed="[signed-by=$debian_keyring]"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
  echo "deb $signed $1 trixie main" > "$apt/sources.list"
  cat > "$apt/apt.conf" << CONF
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/parts";
Dir::Etc::preferencesparts "$apt/parts";
APT::Sandbox::User "root";
CONF
}
