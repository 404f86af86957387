import type { Problem } from '../../plan/model.ts';
import { shellWord } from '../../report/restore-command.ts';
import type { Repository } from './repository.ts';

/** The most keys that the search reads. A bucket may hold millions. */
const MAX_KEYS = 10_000;

/**
 * Finds other Compose projects in a repository, to explain why it has no snapshot of a renamed project. Reads a limited
 * number of keys, so it may miss projects. Never rejects, because this explanation must not hide the original error.
 *
 * @returns their names, sorted
 */
export async function findOtherProjects(
  { destination, project }: Pick<Repository, 'destination' | 'project'>,
  signal?: AbortSignal,
): Promise<string[]> {
  const found = new Set<string>();
  let left = MAX_KEYS;
  try {
    for await (const { key } of destination.list('', signal ? { signal } : {})) {
      const [name = '', folder] = key.split('/');
      if (folder === 'snapshots' && name !== project) found.add(name);
      left -= 1;
      if (left === 0) break;
    }
  } catch {
    signal?.throwIfAborted();
  }
  return [...found].sort();
}

/**
 * `/backups also holds project shop. If this project was renamed, add --from /backups --project shop`; undefined
 * without other projects.
 */
export function otherProjectsText(destination: string, names: readonly string[]): string | undefined {
  if (names.length === 0) return undefined;
  return `${destination} also holds ${listNames(names)}. If this project was renamed, add ${fromOther(destination, names)}`;
}

/** Returns the warning of a project's first backup: it may have been renamed, and then its volumes are new. */
export function newProjectWarning(destination: string, names: readonly string[]): Problem[] {
  if (names.length === 0) return [];
  const message = `this is the first backup of this project, and ${destination} also holds ${listNames(names)}`;
  const hint = `If this project was renamed, its volumes are new and may be empty. Give it its former name again, or bring the data back with \`lifeboat restore latest SOURCE ${fromOther(destination, names)}\`. Otherwise, do nothing.`;
  return [{ severity: 'warning', code: 'PROJECT_NEW', subject: 'project', message, hint }];
}

function listNames(names: readonly string[]): string {
  const list = `${names.slice(0, 5).join(', ')}${names.length > 5 ? ', …' : ''}`;
  return names.length === 1 ? `project ${list}` : `projects ${list}`;
}

/** The options that read the first of other projects. The name of a bucket lacks the options of its address. */
function fromOther(destination: string, [first]: readonly string[]): string {
  return `--from ${destination.startsWith('/') ? shellWord(destination) : 'ADDRESS'} --project ${first}`;
}
