import { conninfo } from './quote.ts';

/** The way a Postgres tool in a helper connects to its server, in the network namespace of the database. */
export interface Connection {
  user: string;
  /** an IP address, a name, or the absolute path of the directory of its Unix socket */
  host: string;
  port: number;
  /** application_name of every session, which identifies leftover sessions */
  application: string;
}

/** Path of the private password file of a helper: on its tmpfs, never on a disk. */
export const PASSFILE = '/run/lifeboat/pgpass';

/**
 * Variables that libpq reads (Postgres docs, 34.15), and language variables that take precedence over LC_MESSAGES. An
 * image may set them. The tools would then connect to another server than the sessions, or print another language.
 */
const OVERRIDDEN = [
  ...['PGHOST', 'PGHOSTADDR', 'PGPORT', 'PGDATABASE', 'PGUSER', 'PGPASSWORD', 'PGAPPNAME', 'PGREQUIREAUTH'],
  ...['PGCHANNELBINDING', 'PGSERVICE', 'PGSERVICEFILE', 'PGSYSCONFDIR', 'PGREQUIRESSL', 'PGSSLCOMPRESSION'],
  ...['PGSSLNEGOTIATION', 'PGSSLCERT', 'PGSSLKEY', 'PGSSLCERTMODE', 'PGSSLROOTCERT', 'PGSSLCRL', 'PGSSLCRLDIR'],
  ...['PGSSLSNI', 'PGREQUIREPEER', 'PGSSLMINPROTOCOLVERSION', 'PGSSLMAXPROTOCOLVERSION', 'PGGSSENCMODE'],
  ...['PGKRBSRVNAME', 'PGGSSLIB', 'PGGSSDELEGATION', 'PGCLIENTENCODING', 'PGTARGETSESSIONATTRS'],
  ...['PGLOADBALANCEHOSTS', 'PGMINPROTOCOLVERSION', 'PGMAXPROTOCOLVERSION', 'PGDATESTYLE', 'PGTZ', 'PGGEQO'],
  ...['PGLOCALEDIR', 'LC_ALL', 'LANGUAGE'],
];

/**
 * Returns the environment of every tool: the variables to set, which hold no secrets, and those of the image to remove,
 * which libpq reads. Messages are in English, so that Lifeboat can recognise them.
 *
 * @param options settings of its sessions, as in PGOPTIONS; see {@link SessionStart}
 */
export function toolEnvironment(options: string): { env: Record<string, string>; unset: readonly string[] } {
  const env = {
    PGPASSFILE: PASSFILE,
    LC_MESSAGES: 'C',
    PGCONNECT_TIMEOUT: '30',
    // Replaces a value of the image. A server may accept only encrypted connections.
    PGSSLMODE: 'prefer',
    PGOPTIONS: options,
  };
  return { env, unset: OVERRIDDEN };
}

/** Returns the `--dbname=` argument for a database. */
export function databaseArgument(connection: Connection, database: string): string {
  const { user, host, port, application } = connection;
  return `--dbname=${conninfo({ dbname: database, host, port, user, application_name: application })}`;
}

/**
 * The compression of `pg_dump`: zstd if the server's tools support it (16 and newer), else not at all. The store
 * compresses.
 */
export type DumpCompression = 'zstd' | 'none';

interface DumpOptions {
  connection: Connection;
  database: string;
  /** directory to create, inside the helper */
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
 * In Debian's images, the programs on the path are Perl wrappers, which take longer to start than a small database
 * takes to dump. This directory has the programs themselves. Where it does not exist, the path finds them.
 */
export const TOOLS = 'PATH="/usr/lib/postgresql/$PG_MAJOR/bin:$PATH"';
const DUMP_SCRIPT = `${TOOLS}; pg_dump "$@" && exec pg_restore --list "$0"`;
const MATCH_SCRIPT = `${TOOLS}; file=$(mktemp) && pg_dump "$@" --file="$file" && exec pg_restore --list "$file"`;

/**
 * Builds the command that runs `pg_dump` in directory format from an exported snapshot, then prints the table of
 * contents of the dump. That `pg_restore` can read all of it shows that the dump is complete. A single command does
 * both, because starting a command in a container takes longer than dumping a small database. The shell gets names only
 * as arguments.
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
 * Builds the command that lists the tables which patterns of `--exclude-table-data` match in a snapshot, or at present.
 * Only `pg_dump` knows its rules for patterns, and it applies the same rules to `--table`. If no table matches, the
 * command fails with "no matching tables were found".
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

/** Builds the `pg_dumpall` command for roles, memberships and tablespaces. */
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

/** Builds the command that prints the table of contents of a dump directory, in the format of `--use-list`. */
export function listCommand(directory: string): string[] {
  return ['pg_restore', '--list', directory];
}

/** The options of {@link tolerantRestoreCommand}. */
interface TolerantRestore {
  connection: Connection;
  /** an existing database, and the dump directory to load into it */
  database: string;
  directory: string;
  /** file for `--use-list`; absent: all entries */
  list?: string;
  jobs: number;
  tablespaces: boolean;
  /** file for the messages, inside the helper */
  log: string;
  /**
   * settings of its sessions, such as `-c max_parallel_maintenance_workers=0`, in addition to {@link toolEnvironment}
   */
  settings?: readonly string[];
}

/** The shell gets names only as arguments. */
const LOGGED_RESTORE_SCRIPT = `${TOOLS}; export PGOPTIONS="$PGOPTIONS $1"; shift; exec 2>>"$0"; exec pg_restore "$@"`;

/**
 * Builds a `pg_restore` command that continues after an error (Postgres docs, pg_restore). It writes its messages to a
 * file, because there may be one for each object. With `--verbose`, an error names its entry of the table of contents.
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
