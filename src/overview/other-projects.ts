import { findOtherProjects } from '../store/repository/other-projects.ts';
import type { Repository } from '../store/repository/repository.ts';

/** The time for which the other projects of a repository are remembered, milliseconds: a day. */
const KEEP_MS = 24 * 60 * 60_000;

/** by the state of a project, of which a process has one */
const known = new WeakMap<object, { at: number; names: string[] }>();

/**
 * Returns the other projects in a repository. The search may read thousands of keys, and the daemon looks every few
 * minutes, so it searches once a day.
 *
 * @param owner in whose name they are remembered
 * @param repository where to search
 * @param signal ends the search
 */
export async function knownOtherProjects(
  owner: object,
  repository: Pick<Repository, 'destination' | 'project'>,
  signal: AbortSignal,
): Promise<string[]> {
  const before = known.get(owner);
  if (before && performance.now() - before.at < KEEP_MS) return before.names;
  const names = await findOtherProjects(repository, signal);
  known.set(owner, { at: performance.now(), names });
  return names;
}
