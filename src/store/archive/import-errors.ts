import { LifeboatError } from '../../base/errors.ts';

/** A file to import that is damaged, cut, or of no known form. */
export function unreadable(message: string, cause?: unknown, hint?: string): LifeboatError {
  return new LifeboatError('IMPORT_UNREADABLE', message, {
    ...(cause === undefined ? {} : { cause }),
    hint: hint ?? 'Nothing was stored. Look whether the file is whole, and try an older one.',
  });
}

/** A file to import that asks for something that is not done. */
export function refused(message: string, { hint }: { hint?: string } = {}): LifeboatError {
  return new LifeboatError('IMPORT_REFUSED', message, {
    hint: hint ?? 'Nothing was stored. Unpack it where it can do no harm, look at it, and pack what is wanted again.',
  });
}
