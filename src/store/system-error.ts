import { shorten } from './path.ts';

/** An error of the system about a path in `/proc/self/fd`, with the path that people know instead. */
export function nameDescriptor(error: unknown, known: string): unknown {
  if (error instanceof Error) {
    error.message = error.message.replace(/'\/proc\/self\/fd\/.*?'(?= -> |$)/s, () => `'${shorten(known)}'`);
  }
  return error;
}
