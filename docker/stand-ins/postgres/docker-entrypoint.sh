#!/usr/bin/env bash
# Entry point of the Postgres stand-in. It takes the settings of the official image and does the same things in the same order:
# prepare the directories as root, create the cluster once as `postgres`, run the init files, then become the server.
set -Eeuo pipefail

say() { printf 'entrypoint: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# A setting comes from NAME, or from the file that NAME_FILE names, or is the default.
setting() {
  local name=$1 default=${2:-} file_name=$1_FILE
  if [[ -n ${!name:-} && -n ${!file_name:-} ]]; then
    fail "both $name and $file_name are set; set one of them"
  fi
  local value=${!name:-$default}
  [[ -z ${!file_name:-} ]] || value=$(< "${!file_name}")
  export "$name=$value"
  unset "$file_name"
}

read_settings() {
  setting POSTGRES_PASSWORD
  setting POSTGRES_USER postgres
  setting POSTGRES_DB "$POSTGRES_USER"
  setting POSTGRES_INITDB_ARGS
  setting POSTGRES_INITDB_WALDIR
  setting POSTGRES_HOST_AUTH_METHOD
}

prepare_directories() {
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 0700 "$PGDATA" || :
  chmod 3775 /var/run/postgresql || :
  if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
    mkdir -p "$POSTGRES_INITDB_WALDIR"
    chmod 0700 "$POSTGRES_INITDB_WALDIR"
  fi
  if (( EUID == 0 )); then
    find "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} \
      \! -user postgres -exec chown postgres {} +
    # from 18 on the data lies below the volume, which must let `postgres` through
    [[ $PGDATA != /var/lib/postgresql/*/docker ]] || chown postgres /var/lib/postgresql "${PGDATA%/docker}"
  fi
}

check_settings() {
  if [[ -z $POSTGRES_PASSWORD && $POSTGRES_HOST_AUTH_METHOD != trust ]]; then
    fail "no superuser password: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE" \
      "(or POSTGRES_HOST_AUTH_METHOD=trust, which lets anyone in)"
  fi
  # From 18 on the volume is one level up. Mounted at the old place, it would stay empty, or hold an older server's data.
  if (( PG_MAJOR >= 18 )) && { grep -q ' /var/lib/postgresql/data ' /proc/self/mountinfo || [[ -s /var/lib/postgresql/PG_VERSION ]]; }; then
    fail "Postgres $PG_MAJOR keeps its data in $PGDATA: mount an empty volume at /var/lib/postgresql"
  fi
}

create_cluster() {
  local args=()
  # the setting may hold quoted arguments, so the shell has to split it
  eval "args=($POSTGRES_INITDB_ARGS)"
  [[ -z $POSTGRES_INITDB_WALDIR ]] || args+=(--waldir="$POSTGRES_INITDB_WALDIR")
  if [[ -n $POSTGRES_PASSWORD ]]; then
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${args[@]}"
  else
    initdb --username="$POSTGRES_USER" "${args[@]}"
  fi
}

# initdb trusts the local socket and the loopback addresses, for replication too.
# Every other host gets one line, and that line says nothing of replication.
let_other_hosts_in() {
  local method=$POSTGRES_HOST_AUTH_METHOD
  [[ -n $method ]] || method=$(postgres -C password_encryption "$@")
  printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

temporary_server() { # start|stop [server arguments…]
  local action=$1
  shift
  if [[ $action == start ]]; then
    # on the socket only: nobody from outside may meet a server that is half set up
    local options
    printf -v options '%q ' "$@" -c listen_addresses= -p 5432
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$options" -w start
  else
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
  fi
}

sql() { # [psql arguments…]
  PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"
}

create_database() {
  local found
  found=$(sql -d postgres -At -v name="$POSTGRES_DB" <<< "SELECT 1 FROM pg_database WHERE datname = :'name'")
  [[ -n $found ]] || sql -d postgres -v name="$POSTGRES_DB" <<< 'CREATE DATABASE :"name"'
}

run_init_files() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh)
        say "running $file"
        # A script that is not executable is read into this shell, where it can use the functions above.
        # shellcheck disable=SC1090
        if [[ -x $file ]]; then "$file"; else . "$file"; fi
        ;;
      *.sql) say "running $file"; sql -d "$POSTGRES_DB" -f "$file" ;;
      *.sql.gz) say "running $file"; gunzip -c "$file" | sql -d "$POSTGRES_DB" ;;
      *.sql.xz) say "running $file"; xz -dc "$file" | sql -d "$POSTGRES_DB" ;;
      *.sql.zst) say "running $file"; zstd -dc "$file" | sql -d "$POSTGRES_DB" ;;
      */\*) ;;
      *) say "leaving $file alone" ;;
    esac
  done
}

initialise() { # postgres [server arguments…]
  shift
  check_settings
  create_cluster
  let_other_hosts_in "$@"
  temporary_server start "$@"
  create_database
  run_init_files
  temporary_server stop
  unset PGPASSWORD
  say 'the cluster is set up'
}

only_asks() {
  local argument
  for argument; do
    case $argument in
      -'?' | --help | --describe-config | -V | --version | -C) return 0 ;;
    esac
  done
  return 1
}

main() {
  [[ ${1:-} != -* ]] || set -- postgres "$@"
  if [[ ${1:-} == postgres ]] && ! only_asks "$@"; then
    # read as root, who may open any secret file
    read_settings
    prepare_directories
    # initdb and the server refuse to run as root
    if (( EUID == 0 )); then exec gosu postgres "${BASH_SOURCE[0]}" "$@"; fi
    # `if`, not `||`: the right side of `||` would run on after a failed step
    if [[ ! -s $PGDATA/PG_VERSION ]]; then initialise "$@"; fi
  fi
  exec "$@"
}

main "$@"
