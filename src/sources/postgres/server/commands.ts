import { conninfo } from './quote.ts';

/** How a Postgres tool inside a helper reaches its server: within the database's network namespace. */
export interface Connection {
  user: string;
  /** an IP, a name, or the absolute path of the directory of its Unix socket */
  host: string;
  port: number;
  /** application_name of every session, by which leftovers are found */
  application: string;
}

/** Where the helper's private password file is (a tmpfs of the helper, never on a disk). */
export const PASSFILE = '/run/lifeboat/pgpass';

/**
 * Variables that libpq obeys (Postgres docs, 34.15), and those of the language that come before LC_MESSAGES. An image may set them: the
 * tools would connect elsewhere than the sessions, otherwise, or speak another language.
 */
const OF_IMAGES = [
  ...['PGHOST', 'PGHOSTADDR', 'PGPORT', 'PGDATABASE', 'PGUSER', 'PGPASSWORD', 'PGAPPNAME', 'PGREQUIREAUTH'],
  ...['PGCHANNELBINDING', 'PGSERVICE', 'PGSERVICEFILE', 'PGSYSCONFDIR', 'PGREQUIRESSL', 'PGSSLCOMPRESSION'],
  ...['PGSSLNEGOTIATION', 'PGSSLCERT', 'PGSSLKEY', 'PGSSLCERTMODE', 'PGSSLROOTCERT', 'PGSSLCRL', 'PGSSLCRLDIR'],
  ...['PGSSLSNI', 'PGREQUIREPEER', 'PGSSLMINPROTOCOLVERSION', 'PGSSLMAXPROTOCOLVERSION', 'PGGSSENCMODE'],
  ...['PGKRBSRVNAME', 'PGGSSLIB', 'PGGSSDELEGATION', 'PGCLIENTENCODING', 'PGTARGETSESSIONATTRS'],
  ...['PGLOADBALANCEHOSTS', 'PGMINPROTOCOLVERSION', 'PGMAXPROTOCOLVERSION', 'PGDATESTYLE', 'PGTZ', 'PGGEQO'],
  ...['PGLOCALEDIR', 'PGOPTIONS', 'LC_ALL', 'LANGUAGE'],
];

/**
 * The environment of every tool: nothing secret, nothing of the image's that libpq obeys, messages in English so that they can be told
 * apart. Undefined stands for a variable to take away.
 *
 * @param options settings of its sessions, as in PGOPTIONS; see {@link SessionStart}
 */
export function toolEnvironment(options: string): Record<string, string | undefined> {
  return {
    ...Object.fromEntries(OF_IMAGES.map((name) => [name, undefined])),
    PGPASSFILE: PASSFILE,
    LC_MESSAGES: 'C',
    PGCONNECT_TIMEOUT: '30',
    // An image may say otherwise; a server may let in only who encrypts.
    PGSSLMODE: 'prefer',
    PGOPTIONS: options,
  };
}

/** The `--dbname=` argument for one database. */
export function databaseArgument(connection: Connection, database: string): string {
  const { user, host, port, application } = connection;
  return `--dbname=${conninfo({ dbname: database, host, port, user, application_name: application })}`;
}

/** How `pg_dump` compresses: zstd where the server's tools have it (16 and newer), else not at all: the store does. */
export type DumpCompression = 'zstd' | 'none';

interface DumpOptions {
  connection: Connection;
  database: string;
  /** directory to make, inside the helper */
  directory: string;
  /** id of an exported snapshot (Postgres docs, 9.28.5) */
  snapshot: string;
  jobs: number;
  compression: DumpCompression;
  excludeTableData: readonly string[];
  /** milliseconds to wait for a table lock before giving up */
  lockTimeoutMs: number;
}

/**
 * In Debian's images the programs on the path are a wrapper in Perl, whose start takes longer than dumping a small
 * database; the programs themselves lie here. Where there is no such directory, the path finds them.
 */
export const TOOLS = 'PATH="/usr/lib/postgresql/$PG_MAJOR/bin:$PATH"';
const DUMP_SCRIPT = `${TOOLS}; pg_dump "$@" && exec pg_restore --list "$0"`;
const MATCH_SCRIPT = `${TOOLS}; file=$(mktemp) && pg_dump "$@" --file="$file" && exec pg_restore --list "$file"`;

/**
 * `pg_dump` in directory format over an exported snapshot, then the list of the dump's table of contents on stdout: that
 * `pg_restore` can read it whole is the tools' own end check. One command, since starting one in a container takes longer
 * than dumping a small database. The shell gets names as arguments only.
 */
export function dumpCommand(options: DumpOptions): string[] {
  return [
    'sh',
    '-c',
    DUMP_SCRIPT,
    options.directory,
    '--format=directory',
    `--jobs=${options.jobs}`,
    options.compression === 'zstd' ? '--compress=zstd:3' : '--compress=0',
    '--no-sync',
    '--no-password',
    `--lock-wait-timeout=${options.lockTimeoutMs}`,
    `--snapshot=${options.snapshot}`,
    ...options.excludeTableData.map((pattern) => `--exclude-table-data=${pattern}`),
    `--file=${options.directory}`,
    databaseArgument(options.connection, options.database),
  ];
}

/**
 * The list of the tables that patterns of `--exclude-table-data` match in a snapshot, or now: `pg_dump` takes those of `--table` the
 * same way, and only it knows how. Ends with "no matching tables were found" where there is none.
 */
export function matchingTablesCommand(
  connection: Connection,
  database: string,
  patterns: readonly string[],
  snapshot?: string,
): string[] {
  return [
    'sh',
    '-c',
    MATCH_SCRIPT,
    'matching-tables',
    '--format=custom',
    '--schema-only',
    '--no-password',
    ...(snapshot === undefined ? [] : [`--snapshot=${snapshot}`]),
    ...patterns.map((pattern) => `--table=${pattern}`),
    databaseArgument(connection, database),
  ];
}

/** `pg_dumpall` for roles, memberships and tablespaces. */
export function globalsCommand(
  connection: Connection,
  database: string,
  file: string,
  rolePasswords: boolean,
): string[] {
  return [
    'pg_dumpall',
    '--globals-only',
    '--no-password',
    '--no-sync',
    ...(rolePasswords ? [] : ['--no-role-passwords']),
    `--file=${file}`,
    databaseArgument(connection, database),
  ];
}

/** The table of contents of a dump directory, as `--use-list` takes it. */
export function listCommand(directory: string): string[] {
  return ['pg_restore', '--list', directory];
}

/** What {@link tolerantRestoreCommand} brings, and how. */
interface TolerantRestore {
  connection: Connection;
  /** an existing database, and the dump directory that fills it */
  database: string;
  directory: string;
  /** file for `--use-list`; absent: everything */
  list?: string;
  jobs: number;
  tablespaces: boolean;
  /** file for what it says, inside the helper */
  log: string;
  /** settings of its sessions, such as `-c max_parallel_maintenance_workers=0`, besides those of {@link toolEnvironment} */
  settings?: readonly string[];
}

/** The shell gets names as arguments only. */
const LOGGED_RESTORE_SCRIPT = `${TOOLS}; export PGOPTIONS="$PGOPTIONS $1"; shift; exec 2>>"$0"; exec pg_restore "$@"`;

/**
 * `pg_restore` that goes on after an error (Postgres docs, pg_restore). Its messages go to a file, since there may be one for
 * each object; with `--verbose` they name the entry of the table of contents that an error is about.
 */
export function tolerantRestoreCommand(options: TolerantRestore): string[] {
  return [
    'sh',
    '-c',
    LOGGED_RESTORE_SCRIPT,
    options.log,
    (options.settings ?? []).join(' '),
    '--verbose',
    ...(options.list === undefined ? [] : [`--use-list=${options.list}`]),
    `--jobs=${options.jobs}`,
    ...(options.tablespaces ? [] : ['--no-tablespaces']),
    '--no-password',
    databaseArgument(options.connection, options.database),
    options.directory,
  ];
}
