import { LifeboatError } from '../../base/errors.ts';
import { shortPath, type TreePath } from '../filesystem/path.ts';

export function wrongContent(): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', 'its stored content is not the content that was backed up');
}

const ABOUT_CONTENT: ReadonlySet<string> = new Set(['OBJECT_MISSING', 'OBJECT_DAMAGED', 'OBJECT_ARCHIVED']);

/** Adds the path of the file to an error about its content. Returns other errors unchanged. */
export function named(error: unknown, path: TreePath): unknown {
  if (!(error instanceof LifeboatError) || !ABOUT_CONTENT.has(error.code)) return error;
  const { code, message, cause, hint } = error;
  return new LifeboatError(code, `${shortPath(path)} cannot be exported: ${message}`, {
    cause,
    hint:
      hint ??
      'Export another snapshot, or read from a copy with --from. `lifeboat check --read-data` finds everything that is damaged.',
  });
}
