import { isSystemError } from '../../base/errors.ts';
import { shorten } from './path.ts';

/** An error of the system about a path in `/proc/self/fd`, with the path that people know instead. */
export function nameDescriptor(error: unknown, known: string): unknown {
  if (error instanceof Error) {
    error.message = error.message.replace(/'\/proc\/self\/fd\/.*?'(?= -> |$)/s, () => `'${shorten(known)}'`);
  }
  return error;
}

/** What an error says, without the path that the system names in it: for issues, which have their path, and not that of a helper. */
export function messageWithoutPath(error: Error): string {
  const { message } = error;
  return shorten(isSystemError(error) ? message.replace(/,? ?\w* '.*'$/s, '') : message);
}
