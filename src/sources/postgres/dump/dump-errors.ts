import { hasCode, LifeboatError } from '../../../base/errors.ts';
import { CONNECTIONS_HINT, OUT_OF_CONNECTIONS } from '../server/connect-error.ts';
import { NO_SPACE } from '../server/messages.ts';
import { MISSING_RIGHTS_HINT } from '../server/session.ts';

/**
 * Converts the error of a failed dump command to SPOOL_FULL, PG_DUMP_INCOMPLETE or PG_DUMP_FAILED, according to the
 * messages of the tools. Returns any other error unchanged.
 */
export function dumpError(error: unknown, database: string, container: string): unknown {
  if (!hasCode(error, 'EXEC_FAILED', 'HELPER_FAILED')) return error;
  const text = error.message + (error.cause instanceof Error ? error.cause.message : '');
  if (NO_SPACE.test(text)) {
    return new LifeboatError('SPOOL_FULL', `no space left in the spool while dumping ${database}`, {
      cause: error,
      hint: 'Free space on the disk of the volume mounted at /spool, or mount a larger one there.',
    });
  }
  if (text.includes('pg_restore: error:')) {
    return new LifeboatError('PG_DUMP_INCOMPLETE', `the dump of ${database} is incomplete: pg_restore cannot read it`, {
      cause: error,
    });
  }
  return new LifeboatError('PG_DUMP_FAILED', `pg_dump of ${database} in ${container} failed`, {
    cause: error,
    ...hintFor(text),
  });
}

/** Chooses a hint by the server's message, because `pg_dump` prints no SQLSTATE. */
function hintFor(text: string): { hint?: string } {
  if (text.includes('permission denied for ')) return { hint: MISSING_RIGHTS_HINT };
  return OUT_OF_CONNECTIONS.test(text) ? { hint: CONNECTIONS_HINT } : {};
}

/** Returns true if `pg_dump` was built without zstd, as in some custom images. It reports that before it connects. */
export function lacksZstd(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (/does not support compression with zstd/i.test(e.message)) return true;
  }
  return false;
}
