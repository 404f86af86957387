import { hasErrno, LifeboatError } from './errors.ts';

/**
 * What a full disk means where a run writes for itself: destinations and restore targets code their own failures, so
 * what arrives as a bare ENOSPC is the spool, with journal, dump and index. Any other error is returned as it is.
 */
export function spoolError(error: unknown): unknown {
  if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) return error;
  return new LifeboatError('SPOOL_FULL', 'the spool has no space left', {
    cause: error,
    hint: 'Free space on the disk of the volume mounted at /spool, or mount a larger one there.',
  });
}
