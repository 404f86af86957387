import { TOOLS } from '../../sources/postgres/server/commands.ts';

/** The scripts and settings of a recovering server. */

/** The data directory in the helper. */
export const DATA = '/lifeboat/data';
const RUNTIME = '/run/lifeboat';

/**
 * Waits for a file that the agent fetches. The name comes from Postgres, and has only letters, digits and a dot. Status
 * 1 means that there is no such file. Any other failure must end the server, or it would count as the end of the WAL. A
 * status above 125 does that (Postgres docs, restore_command).
 */
export const FETCH_SCRIPT = `: > "/lifeboat/wanted/$1" || exit 255
while [ ! -e "/lifeboat/wal/$1" ]; do [ -e "/lifeboat/wal/$1.none" ] && exit 1; sleep 0.05; done
cp "/lifeboat/wal/$1" "$2" || exit 255
`;

/**
 * Runs the server without the settings of `ALTER SYSTEM`, which apply with any `config_file` and are not those of a
 * recovery. They come back when the server has ended.
 *
 * Prepared transactions need space in the server's memory. The control file says how much the primary had when the base
 * backup was made, and it may have got more since.
 *
 * The WAL since the end of the recovery stays, up to `keepMb`: the receiver begins there, so that no time after the
 * recovery is missing. A checkpoint would remove it.
 */
const run = (
  server: string,
  keepMb: number,
  database = '',
) => `of() { pg_controldata -D "$data" | sed -n "s/^$1 setting: *//p"; }
prepared=$(of max_prepared_xacts); [ "\${prepared:-0}" -gt 1000 ] || prepared=1000
keep=wal_keep_size=${keepMb}MB; [ "$(cat "$data/PG_VERSION")" -ge 13 ] 2>/dev/null || keep=wal_keep_segments=${keepMb / 16}
auto=$data/postgresql.auto.conf; [ ! -e "$auto" ] || mv -f "$auto" "$auto.lifeboat" || exit 1
${server} -D "$data" "$@" -c max_prepared_transactions="$prepared" -c max_locks_per_transaction="$(of max_locks_per_xact)" \\
  -c max_connections="$(of max_connections)" -c max_worker_processes="$(of max_worker_processes)" \\
  -c max_wal_senders="$(of max_wal_senders)" -c "$keep" ${database}
status=$?; [ ! -e "$auto.lifeboat" ] || mv -f "$auto.lifeboat" "$auto" || exit 1
exit $status`;

/** The WAL before the end of the recovery stays too, and is copied with the data. */
const KEEP_RECOVERING_MB = 64;
/** The checks write hints and the records of their transactions. */
const KEEP_RECOVERED_MB = 1024;

/** Recovers the server. */
export const START_SCRIPT = `${TOOLS}; data=$0; umask 077; export LC_ALL=C
printf '%s' "$FETCH" > ${RUNTIME}/fetch && : > ${RUNTIME}/postgresql.conf && : > ${RUNTIME}/pg_ident.conf &&
echo 'local all all trust' > ${RUNTIME}/pg_hba.conf && : > "$data/recovery.signal" && rm -f "$data/standby.signal" || exit 1
${run('postgres', KEEP_RECOVERING_MB)}`;

/** Status of {@link VERIFY_SCRIPT} if the image does not have the program. */
export const NO_PROGRAM = 127;
/** Status of {@link VERIFY_SCRIPT} if the base backup has no manifest, or one that cannot be read. */
export const NO_MANIFEST = 126;

/** Checks a base backup against its manifest, without the WAL, which the base backup does not hold. */
export const VERIFY_SCRIPT = `${TOOLS}; [ -r "$0/backup_manifest" ] || exit ${NO_MANIFEST}
command -v pg_verifybackup >/dev/null || exit ${NO_PROGRAM}
export LC_ALL=C; exec pg_verifybackup --no-parse-wal --quiet "$0"`;

/** Starts the recovered server. */
export const SERVE_SCRIPT = `${TOOLS}; data=$0; export LC_ALL=C
printf 'local all all trust\\nhost all all 127.0.0.1/32 trust\\n' > ${RUNTIME}/pg_hba.conf || exit 1
${run('postgres', KEEP_RECOVERED_MB)}`;

/** Runs the commands of stdin as the role that made the server, whatever its name is. The server must not run. */
export const SINGLE_SCRIPT = `${TOOLS}; data=$0; export LC_ALL=C
${run('postgres --single', KEEP_RECOVERED_MB, 'template1')}`;

/** Prints what the control file says. */
export const CONTROL_SCRIPT = `${TOOLS}; export LC_ALL=C; exec pg_controldata -D "$0"`;

/** None of the server's own configuration applies: it may name files, libraries and addresses that are not there. */
export const SETTINGS: Readonly<Record<string, string>> = {
  config_file: `${RUNTIME}/postgresql.conf`,
  hba_file: `${RUNTIME}/pg_hba.conf`,
  ident_file: `${RUNTIME}/pg_ident.conf`,
  listen_addresses: '',
  unix_socket_directories: RUNTIME,
  external_pid_file: '',
  hot_standby: 'off',
  ssl: 'off',
  archive_mode: 'off',
  logging_collector: 'off',
  log_destination: 'stderr',
  log_min_messages: 'warning',
  log_line_prefix: '',
  lc_messages: 'C',
  shared_preload_libraries: '',
  session_preload_libraries: '',
  local_preload_libraries: '',
  synchronous_standby_names: '',
  primary_conninfo: '',
  primary_slot_name: '',
  recovery_end_command: '',
  archive_cleanup_command: '',
  recovery_target: '',
  shared_buffers: '128MB',
  huge_pages: 'off',
  max_wal_size: '4GB',
  autovacuum: 'off',
  recovery_target_action: 'promote',
  restore_command: `sh ${RUNTIME}/fetch "%f" "%p"`,
};
