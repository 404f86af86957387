import { LifeboatError } from '../../base/errors.ts';
import { type GlobPattern, parseGlob } from '../../plan/values/glob.ts';
import { pathToText, type TreePath } from './path.ts';

/** Selects paths of a tree. `directory`: whether the path is a directory. */
export type PathPredicate = (path: TreePath, directory: boolean) => boolean;

/**
 * Compiles globs, see {@link parseGlob}. Paths are matched as text. In a part that is not UTF-8, each byte counts as
 * one character.
 *
 * @throws USAGE for a glob that {@link parseGlob} refuses
 */
export function compileGlobs(globs: readonly string[]): PathPredicate {
  const patterns = globs.flatMap(patternsOf);
  return (path, directory) => {
    if (path === '' || patterns.length === 0) return false;
    const whole = pathToText(path) ?? path.split('/').map(partToText).join('/');
    const name = whole.slice(whole.lastIndexOf('/') + 1);
    return patterns.some((p) => (directory || !p.directoriesOnly) && p.matches(p.basename ? name : whole));
  };
}

function partToText(part: string): string {
  return pathToText(part) ?? part;
}

function patternsOf(glob: string): GlobPattern[] {
  const parsed = parseGlob(glob);
  if ('patterns' in parsed) return parsed.patterns;
  const hint = parsed.hint ?? 'give several simpler globs, or a directory';
  throw new LifeboatError('USAGE', `${JSON.stringify(glob)} ${parsed.problem}`, {
    hint: `${hint.charAt(0).toUpperCase()}${hint.slice(1)}.`,
  });
}

/**
 * Returns a function that selects the paths that a glob matches, and everything in directories that one matches. A glob
 * may be a plain path: `uploads/2026` selects everything below it.
 */
export function selectByGlobs(globs: readonly string[]): (path: TreePath, directory: boolean) => boolean {
  const matches = compileGlobs(globs);
  return (path, directory) => {
    if (matches(path, directory)) return true;
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      if (matches(path.slice(0, at), true)) return true;
    }
    return false;
  };
}
