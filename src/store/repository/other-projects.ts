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
  const [first] = names;
  if (first === undefined) return undefined;
  const list = `${names.slice(0, 5).join(', ')}${names.length > 5 ? ', …' : ''}`;
  // The name of a bucket lacks the options of its address.
  const from = destination.startsWith('/') ? destination : 'ADDRESS';
  const which = names.length === 1 ? `project ${list}` : `projects ${list}`;
  const hint = `add --from ${from} --project ${first}`;
  return `${destination} also holds ${which}. If this project was renamed, ${hint}`;
}
