import { LifeboatError } from '../../base/errors.ts';
import { type GlobPattern, parseGlob } from '../../plan/values/glob.ts';
import { pathToText, type TreePath } from './path.ts';

/** Decides about paths of a tree. `directory` says whether the path is one. */
export type PathPredicate = (path: TreePath, directory: boolean) => boolean;

/**
 * Compiles globs, see {@link parseGlob}. A path is matched as text; in one that is not UTF-8, each byte of a part that is
 * not counts as one character.
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
  const hint = parsed.hint ?? 'give several globs that are simpler, or a directory';
  throw new LifeboatError('USAGE', `${JSON.stringify(glob)} ${parsed.problem}`, {
    hint: `${hint.charAt(0).toUpperCase()}${hint.slice(1)}.`,
  });
}

/**
 * True for a path that a glob matches, or that lies in a directory that one matches. Globs may also be plain paths:
 * `uploads/2026` selects all below it.
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
