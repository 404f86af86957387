import { type ErrorCode, LifeboatError } from './errors.ts';

/** The exit statuses of every command. They match restic's where restic has one. */
export const EXIT = { done: 0, failed: 1, usage: 2, partial: 3, nothing: 4, locked: 11, interrupted: 130 } as const;

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  USAGE: EXIT.usage,
  SETTING_UNKNOWN: EXIT.usage,
  SETTING_INVALID: EXIT.usage,
  SOURCE_UNKNOWN: EXIT.nothing,
  PROJECT_UNKNOWN: EXIT.nothing,
  SNAPSHOT_UNKNOWN: EXIT.nothing,
  PATH_UNKNOWN: EXIT.nothing,
  NOTHING_LABELLED: EXIT.nothing,
  NOT_CONFIRMED: EXIT.usage,
  RESTORE_UNHEALTHY: EXIT.partial,
  NOTHING_TO_ACCEPT: EXIT.nothing,
  NOTHING_TO_ROLL_BACK: EXIT.nothing,
  LOCKED: EXIT.locked,
  INTERRUPTED: EXIT.interrupted,
};

/** Returns the exit status for a command that fails with this error. */
export function exitStatus(error: unknown): number {
  return error instanceof LifeboatError ? (BY_CODE[error.code] ?? EXIT.failed) : EXIT.failed;
}
