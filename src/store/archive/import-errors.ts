import { LifeboatError } from '../../base/errors.ts';

/** The error for a file to import that is damaged, cut off, or has an unknown form. */
export function unreadable(message: string, cause?: unknown, hint?: string): LifeboatError {
  return new LifeboatError('IMPORT_UNREADABLE', message, {
    ...(cause === undefined ? {} : { cause }),
    hint: hint ?? 'Nothing was stored. Check that the file is complete, or try an older one.',
  });
}

/** The error for a file to import that asks for something that Lifeboat does not do. */
export function refused(message: string, { hint }: { hint?: string } = {}): LifeboatError {
  return new LifeboatError('IMPORT_REFUSED', message, {
    hint: hint ?? 'Nothing was stored. Unpack it in a safe place, inspect it, and pack the files that you want again.',
  });
}
