import { LifeboatError } from '../base/errors.ts';

/** Returns the error of a snapshot that a copy cannot receive. */
export function notCopied(id: string, cause: LifeboatError): LifeboatError {
  return new LifeboatError(cause.code, `${id} is not copied: ${cause.message}`, {
    cause: cause.cause,
    hint: cause.hint ?? 'Run `lifeboat check`. Back up again: the next backup stores damaged content again.',
  });
}

/** Returns the error of a manifest that a copy does not return now. */
export function notRead(place: string, id: string, cause: LifeboatError): LifeboatError {
  return new LifeboatError(cause.code, `the manifest of ${id} cannot be read at ${place}`, {
    cause: cause.cause,
    hint: 'Check the disk or mount behind it, and the owner of the file. If the file is lost for good, delete it there: the next run sends it again.',
  });
}
