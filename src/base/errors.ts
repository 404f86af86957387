/**
 * Lists every failure that a user can meet. The codes are stable, because scripts and alerts rely on them. The text is
 * the meaning in one line. A test keeps docs/errors.md equal to this table.
 */
export const ERROR_CODES = {
  // configuration and plan
  SETTING_UNKNOWN: 'an environment variable starts with LIFEBOAT_ but is not a setting',
  SETTING_INVALID: 'a setting has a value that cannot be used',
  LABEL_UNKNOWN: 'a label starts with lifeboat. but is not one that Lifeboat knows',
  LABEL_INVALID: 'a label has a value that cannot be used',
  SOURCE_DUPLICATE: 'two sources have the same name',
  SOURCE_VANISHED: 'a source of the last snapshot no longer exists',
  PROJECT_NEW: 'a project has no earlier backup, and the repository holds other projects',
  SOURCE_UNKNOWN: 'no source has that name',
  PROJECT_UNKNOWN: 'no container of that project exists',
  NOTHING_LABELLED: 'no container of the project asks to be backed up',
  CONTAINER_STOPPED: 'a labelled container is not running',
  CONFIG_STALE: 'a file under /config was replaced on the host, and Lifeboat still sees the old one',
  VOLUME_UNKNOWN: 'a label names a volume or path that the container does not mount',
  COMPOSE_UNREADABLE: 'a Compose file is missing, or cannot be read',
  COMPOSE_CHANGED: 'a Compose file changed while `lifeboat init` ran',
  COMPOSE_UNWRITABLE: 'a Compose file cannot be written',
  USAGE: 'the command line is wrong',
  // engine
  ENGINE_UNREACHABLE: 'the Docker engine does not answer',
  ENGINE_REFUSED: 'the Docker engine refused a request',
  ENGINE_PROTOCOL: 'the Docker engine sent an invalid response',
  EXEC_FAILED: 'a command in a container failed',
  HELPER_FAILED: 'a helper container could not be started, ended early or could not be removed',
  HOOK_FAILED: 'a lifeboat.exec command failed',
  AGENT_NOT_IN_CONTAINER: 'Lifeboat cannot find its own container',
  // postgres
  PG_AUTH: 'the database refused the credentials',
  PG_UNREACHABLE: 'the database does not answer',
  PG_WRONG_SERVER: 'the server is not the one in the container, or nothing proves that it is',
  PG_QUERY: 'a query failed',
  PG_DATABASE_UNKNOWN: 'a named database does not exist on the server, or allows no connections',
  PG_NAME_UNSUPPORTED: 'a name cannot be handled safely',
  PG_DUMP_FAILED: 'pg_dump failed',
  PG_DUMP_INCOMPLETE: 'pg_dump or pg_dumpall ended, but its output is incomplete',
  PG_STALLED: 'the database did not answer for too long, or its dump or restore made no progress',
  PG_RESTARTED: 'the database container was restarted or replaced during the run',
  PG_RESTORE_FAILED: 'pg_restore or psql failed',
  PG_TABLE_UNKNOWN: 'a named table is not in the snapshot, or is not a table',
  PG_TARGET_EXISTS: 'the database or table to restore to exists',
  PG_TARGET_BUSY: 'something that cannot be ended uses the database to replace',
  PG_NO_SPACE: 'the database server has too little free space for the restore',
  PG_VERSION: 'the server is too old for the request',
  PG_REPLICATION: 'the server cannot be recovered to a point in time as it is configured',
  PG_BASE_FAILED: 'a base backup failed, or differs from the manifest that Postgres made of it',
  WAL_GAP: 'a part of the write-ahead log is missing, so the times in it cannot be recovered',
  WAL_BEHIND: 'a server keeps much WAL for Lifeboat, because Lifeboat receives it too slowly',
  WAL_DIVERGED: 'a server went back to older data, so its new write-ahead log contradicts the stored one',
  RPO_MISSED: 'the loss of the host would cost more work of a source than its target allows',
  RTO_MISSED: 'the last restore of a source took longer than its target allows',
  PITR_TIME: 'the database cannot be recovered to that time',
  // volumes and files
  TREE_UNREADABLE: 'part of a volume could not be read',
  SQLITE_TORN: 'an SQLite database could not be stored as of one moment',
  SQLITE_DAMAGED: 'SQLite reports that a database is damaged',
  TREE_TARGET_NOT_EMPTY: 'the directory to restore into is not empty',
  TREE_TARGET_FULL: 'the directory to restore into has no space left',
  PATH_UNKNOWN: 'a snapshot holds no file of that name',
  TREE_TARGET_REFUSED: 'Lifeboat cannot restore into this directory',
  FILE_EXISTS: 'the file to write exists',
  OUTPUT_FAILED: 'the output cannot be written, because its reader has ended',
  IMPORT_UNREADABLE: 'a file to import is damaged, cut off, or has an unknown form',
  IMPORT_REFUSED: 'a file to import asks for something that Lifeboat does not do',
  IMPORT_INCOMPLETE: 'some statements of a dump to import failed',
  TREE_EMPTY: 'a source that should hold data is empty',
  TREE_HALF_RESTORED: 'a volume holds neither the old data nor the new, because a swap was cut off',
  TREE_STALLED: 'reading a volume made no progress for too long',
  // store and destinations
  SPOOL_FULL: 'the spool has too little free space',
  DEST_FULL: 'the destination has no space left',
  DEST_UNWRITABLE: 'the destination cannot be written',
  DEST_UNREACHABLE: 'the destination does not answer',
  DEST_NOT_MOUNTED: 'the destination is inside the Lifeboat container, not on a mount',
  DEST_FOREIGN: 'the destination does not hold the expected repository',
  DEST_EXISTS: 'an object with that name already exists',
  DEST_LARGE: 'a place holds more, or costs more, than its location allows',
  DEST_RULES: 'a lifecycle rule of the bucket removes or archives objects that backups need',
  DELETE_REFUSED: 'the destination refuses to delete an object',
  DEST_DAMAGED: 'the data read back differs from the data stored',
  OBJECT_MISSING: 'an object that should be in the repository is missing',
  OBJECT_DAMAGED: 'an object in the repository is damaged',
  OBJECT_ARCHIVED: 'an object is archived and cannot be read at once',
  KEY_MISSING: 'the data is encrypted, and no key to read it is set',
  KEY_WRONG: 'the data is encrypted, and no configured key decrypts it',
  SIGNATURE_MISSING: 'a signature is missing',
  SIGNATURE_WRONG: 'signed data was changed, or moved to another place',
  SIGNATURE_KEY: 'the data is signed with a key that is not configured',
  CHAIN_BROKEN: 'a manifest is missing, or is not in its place in the chain',
  FORMAT_UNSUPPORTED: 'the repository has a format this version cannot read',
  SNAPSHOT_TOO_LARGE: 'the description of a snapshot would be too large to read back',
  SNAPSHOT_PARTIAL: 'the newest snapshot of a server lacks a database that an older one holds',
  SNAPSHOT_UNKNOWN: 'no snapshot, or no drill, has that name',
  TOOL_FAILED: 'a program that Lifeboat runs failed',
  // runs
  LOCKED: 'another run is in progress',
  LEASE_LOST: 'another Lifeboat instance took over the repository in the middle of a run',
  NOT_CONFIRMED: 'data would be replaced, and nobody confirmed it',
  DRILL_FAILED: 'a drill could not prove that a snapshot restores as recorded',
  RESTORE_UNHEALTHY: 'the data was restored, but the application does not work',
  NOTHING_TO_ACCEPT: 'a source has no loss to accept',
  NOTHING_TO_ROLL_BACK: 'no restore can be rolled back',
  INTERRUPTED: 'the run was interrupted',
  CLOCK_JUMPED: 'the clock does not match the times of the snapshots, or of the stored write-ahead log',
  RUN_DIED: 'Lifeboat ended in the middle of a run',
  NOTIFY_FAILED: 'a notification could not be sent',
  INTERNAL: 'an unexpected error in Lifeboat',
} as const;

/** One of the stable codes of {@link ERROR_CODES}. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** The parts of an error in reports, manifests and `--json`. */
export interface ErrorInfo {
  code: ErrorCode;
  message: string;
  hint?: string;
  cause?: string;
}

/**
 * The only error class of the project. `message` is lower case and has no full stop. `hint` is a sentence that says
 * what to do. `cause` is the error that was caught.
 */
export class LifeboatError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'LifeboatError';
    this.code = code;
    this.hint = options.hint;
  }
}

/** True for a {@link LifeboatError} with one of these codes. */
export function hasCode(error: unknown, ...codes: readonly ErrorCode[]): error is LifeboatError {
  return error instanceof LifeboatError && codes.includes(error.code);
}

/**
 * Returns a {@link LifeboatError} as it is. Wraps any other error under `code` (default INTERNAL), with that error as
 * cause.
 */
export function toLifeboatError(error: unknown, code: ErrorCode = 'INTERNAL'): LifeboatError {
  if (error instanceof LifeboatError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new LifeboatError(code, message, { cause: error });
}

/**
 * Flattens an error for reports. `cause` joins the messages of up to five nested causes, without those that repeat its
 * own message or are a part of the cause before.
 */
export function errorInfo(error: unknown): ErrorInfo {
  const own = toLifeboatError(error);
  const info: ErrorInfo = { code: own.code, message: own.message };
  if (own.hint !== undefined) info.hint = own.hint;
  const causes: string[] = [];
  for (let c = own.cause; c instanceof Error && causes.length < 5; c = c.cause) {
    if (c.message && c.message !== own.message && !causes.some((one) => one.includes(c.message)))
      causes.push(c.message);
  }
  if (causes.length > 0) info.cause = causes.join(': ');
  return info;
}

/** Linux error numbers (errno(3)) without a name in Node, which calls them `Unknown system error -122`. */
const UNNAMED: Readonly<Record<string, number>> = { EBADMSG: 74, ESTALE: 116, EUCLEAN: 117, EDQUOT: 122 };

/** True for a system error with one of these codes, e.g. `ENOENT`. */
export function hasErrno(error: unknown, ...codes: string[]): boolean {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return false;
  if (codes.includes(error.code)) return true;
  const number = 'errno' in error && typeof error.errno === 'number' ? Math.abs(error.errno) : undefined;
  return number !== undefined && codes.some((code) => UNNAMED[code] === number);
}

/** True if a disk cannot return its data: a bad sector, or a file system that detects a wrong checksum. */
export function isDiskError(error: unknown): boolean {
  return hasErrno(error, 'EIO', 'EBADMSG', 'EUCLEAN');
}

/** True for an error of the operating system, as Node throws it. */
export function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number';
}
