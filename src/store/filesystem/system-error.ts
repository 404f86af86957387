import { hasErrno, isSystemError } from '../../base/errors.ts';
import { shorten } from './path.ts';

/** Replaces a path in `/proc/self/fd` by the path that users know, in the message of a system error. */
export function nameDescriptor(error: unknown, known: string): unknown {
  if (error instanceof Error) {
    error.message = error.message.replace(/'\/proc\/self\/fd\/.*?'(?= -> |$)/s, () => `'${shorten(known)}'`);
  }
  return error;
}

/** Returns whether a path was too long for the system, also for an error that crossed a thread as its message. */
export function isTooLong(error: Error): boolean {
  return hasErrno(error, 'ENAMETOOLONG') || error.message.startsWith('ENAMETOOLONG');
}

/**
 * Returns the message of an error without the path that the system puts in it. An issue has its own path, and the one
 * in the message may be that of a helper.
 */
export function messageWithoutPath(error: Error): string {
  const { message } = error;
  return shorten(isSystemError(error) ? message.replace(/,? ?\w* '.*'$/s, '') : message);
}
