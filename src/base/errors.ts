/**
 * Every failure a user can meet has a code in this table. The code is stable: scripts, alerts and docs/errors.md rely
 * on it (a test keeps the page and this table equal). The text says what the code means in one line.
 */
export const ERROR_CODES = {
  // configuration and plan
  SETTING_UNKNOWN: 'an environment variable starts with LIFEBOAT_ but is not a setting',
  SETTING_INVALID: 'a setting has a value that cannot be used',
  LABEL_UNKNOWN: 'a label starts with lifeboat. but is not one that Lifeboat knows',
  LABEL_INVALID: 'a label has a value that cannot be used',
  SOURCE_DUPLICATE: 'two sources have the same name',
  SOURCE_VANISHED: 'a source of the last snapshot is not there any more',
  SOURCE_UNKNOWN: 'no source of that name is known',
  NOTHING_LABELLED: 'no container in scope asks to be backed up',
  CONTAINER_STOPPED: 'a labelled container is not running',
  CONFIG_STALE: 'a file under /config was replaced on the host, and Lifeboat still sees the old one',
  VOLUME_UNKNOWN: 'a label names a volume or path that the container does not mount',
  USAGE: 'the command line cannot be understood',
  // engine
  ENGINE_UNREACHABLE: 'the Docker engine does not answer',
  ENGINE_REFUSED: 'the Docker engine refused a request',
  ENGINE_PROTOCOL: 'the Docker engine sent something that cannot be right',
  EXEC_FAILED: 'a command in a container did not end well',
  HELPER_FAILED: 'a helper container could not be started, ended early or could not be removed',
  HOOK_FAILED: 'a lifeboat.exec command did not end well',
  AGENT_NOT_IN_CONTAINER: 'the agent cannot find its own container',
  // postgres
  PG_AUTH: 'the database refused the credentials',
  PG_UNREACHABLE: 'the database does not answer',
  PG_WRONG_SERVER: 'the server that was reached is not that of the container, or nothing proves that it is',
  PG_QUERY: 'a query failed',
  PG_DATABASE_UNKNOWN: 'a database that was named does not exist on the server, or lets nobody connect',
  PG_NAME_UNSUPPORTED: 'a name cannot be handled safely',
  PG_DUMP_FAILED: 'pg_dump failed',
  PG_DUMP_INCOMPLETE: 'pg_dump ended, but its output is not whole',
  PG_STALLED: 'the database did not answer, or a dump or restore of it made no progress, for too long',
  PG_RESTARTED: 'the database container was restarted or replaced during the run',
  PG_RESTORE_FAILED: 'pg_restore or psql failed',
  PG_TABLE_UNKNOWN: 'a table that was named is not in the snapshot, or is none',
  PG_TARGET_EXISTS: 'the database or table to restore to exists',
  PG_TARGET_BUSY: 'the database to replace is held by something that cannot be ended',
  PG_NO_SPACE: 'the database server has too little free space for the restore',
  PG_VERSION: 'the server is too old for what was asked',
  // volumes and files
  TREE_UNREADABLE: 'part of a volume could not be read',
  SQLITE_TORN: 'an SQLite database could not be stored as it was at one moment',
  SQLITE_DAMAGED: 'SQLite finds a database damaged',
  TREE_TARGET_NOT_EMPTY: 'the directory to restore into is not empty',
  TREE_TARGET_FULL: 'the directory to restore into has no space left',
  PATH_UNKNOWN: 'a snapshot holds no file of that name',
  TREE_TARGET_REFUSED: 'the directory to restore into is not a place to restore to',
  FILE_EXISTS: 'the file to write exists',
  OUTPUT_FAILED: 'the output cannot be written: what reads it has ended',
  IMPORT_UNREADABLE: 'a file to import is damaged, cut, or of no form that is known',
  IMPORT_REFUSED: 'a file to import asks for something that is not done',
  IMPORT_INCOMPLETE: 'some statements of a dump to import failed',
  TREE_EMPTY: 'a source that should hold data holds nothing at all',
  TREE_HALF_RESTORED: 'a volume holds neither the old data nor the new: a swap was cut off',
  TREE_STALLED: 'reading a volume made no progress for too long',
  // store and destinations
  SPOOL_FULL: 'the spool has too little free space',
  DEST_FULL: 'the destination has no space left',
  DEST_UNWRITABLE: 'the destination cannot be written',
  DEST_UNREACHABLE: 'the destination does not answer',
  DEST_NOT_MOUNTED: 'the destination is inside the agent container, not on a mount',
  DEST_FOREIGN: 'the destination does not hold the repository that it should',
  DEST_EXISTS: 'an object of that name is stored already',
  DEST_RULES: 'a rule of the bucket takes away, or out of reach, what backups need',
  DELETE_REFUSED: 'the destination does not let an object be deleted',
  DEST_DAMAGED: 'what was read back is not what was stored',
  OBJECT_MISSING: 'an object that should be in the repository is missing',
  OBJECT_DAMAGED: 'an object in the repository is damaged',
  OBJECT_ARCHIVED: 'an object lies in an archive and cannot be read at once',
  KEY_MISSING: 'what is stored is encrypted, and no key to read it is set',
  KEY_WRONG: 'what is stored is encrypted, and none of the keys that are set opens it',
  SIGNATURE_MISSING: 'what should be signed is not',
  SIGNATURE_WRONG: 'what was signed was changed, or moved to another place',
  SIGNATURE_KEY: 'it was signed with a key that is not set',
  CHAIN_BROKEN: 'a manifest is missing, or is not in its place among the others',
  FORMAT_UNSUPPORTED: 'the repository has a format this version cannot read',
  SNAPSHOT_TOO_LARGE: 'a snapshot would be described by more than can be read back',
  SNAPSHOT_PARTIAL: 'the newest snapshot of a server lacks a database that an older one holds',
  SNAPSHOT_UNKNOWN: 'no snapshot of that name exists',
  TOOL_FAILED: 'a program that Lifeboat runs did not end well',
  // runs
  LOCKED: 'another run is under way',
  LEASE_LOST: 'another agent took over the repository in the middle of a run',
  NOT_CONFIRMED: 'data would be replaced, and nobody agreed to it',
  RESTORE_UNHEALTHY: 'the data was restored, but what uses it does not work',
  NOTHING_TO_ROLL_BACK: 'no restore can be rolled back',
  INTERRUPTED: 'the run was asked to stop',
  CLOCK_JUMPED: 'the clock does not go with the times of the snapshots',
  RUN_DIED: 'the agent ended in the middle of a run',
  NOTIFY_FAILED: 'a notification could not be sent',
  INTERNAL: 'something that should not happen did',
} as const;

/** One of the stable codes of {@link ERROR_CODES}. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** The parts of an error that reports, manifests and `--json` carry. */
export interface ErrorInfo {
  code: ErrorCode;
  message: string;
  hint?: string;
  cause?: string;
}

/**
 * The only error class of the project. `message` is lower case without a full stop; `hint` is a sentence that says what
 * to do; `cause` keeps what was caught.
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

/** Returns `error` if it is a {@link LifeboatError}, else wraps it under `code` (default INTERNAL), keeping it as cause. */
export function toLifeboatError(error: unknown, code: ErrorCode = 'INTERNAL'): LifeboatError {
  if (error instanceof LifeboatError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new LifeboatError(code, message, { cause: error });
}

/** Flattens an error for reports: the deepest cause's message is kept where it differs from the error's own. */
export function errorInfo(error: unknown): ErrorInfo {
  const own = toLifeboatError(error);
  const info: ErrorInfo = { code: own.code, message: own.message };
  if (own.hint !== undefined) info.hint = own.hint;
  const causes: string[] = [];
  for (let c = own.cause; c instanceof Error && causes.length < 5; c = c.cause) {
    if (c.message && c.message !== own.message && !causes.includes(c.message)) causes.push(c.message);
  }
  if (causes.length > 0) info.cause = causes.join(': ');
  return info;
}

/** Numbers of Linux (errno(3)) that Node has no name for: it calls them `Unknown system error -122`. */
const UNNAMED: Readonly<Record<string, number>> = { EBADMSG: 74, ESTALE: 116, EUCLEAN: 117, EDQUOT: 122 };

/** True for a system error with one of these codes, e.g. `ENOENT`. */
export function hasErrno(error: unknown, ...codes: string[]): boolean {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return false;
  if (codes.includes(error.code)) return true;
  const number = 'errno' in error && typeof error.errno === 'number' ? Math.abs(error.errno) : undefined;
  return number !== undefined && codes.some((code) => UNNAMED[code] === number);
}

/** True when a disk does not give back what is on it: a bad sector, or a file system that finds its own sums wrong. */
export function isDiskError(error: unknown): boolean {
  return hasErrno(error, 'EIO', 'EBADMSG', 'EUCLEAN');
}

/** True for an error of the operating system, as Node throws it. */
export function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number';
}
