import type { Destination } from './destinations/destination.ts';
import { LifeboatError } from './errors.ts';

/** A repository that is not the agent's own: `restore --from`. */
export interface Foreign {
  /** where it is mounted in the agent */
  directory: string;
  /** the Compose project in it; absent: the agent's own, or the only one */
  project?: string;
}

/**
 * The Compose project to restore from a repository of another host.
 *
 * @throws SNAPSHOT_UNKNOWN when it holds none of that name; USAGE when there are several and none was named
 */
export async function projectIn(destination: Destination, wanted: string | undefined, own: string): Promise<string> {
  const found = new Set<string>();
  for await (const { key } of destination.list('')) {
    const [project = '', folder] = key.split('/');
    if (folder === 'snapshots') found.add(project);
  }
  const names = [...found].sort();
  const hint = names.length === 0 ? 'Is that the directory with lifeboat.json?' : `It holds: ${names.join(', ')}.`;
  if (wanted !== undefined) {
    if (found.has(wanted)) return wanted;
    throw new LifeboatError('SNAPSHOT_UNKNOWN', `${destination.name} holds no snapshot of project ${wanted}`, { hint });
  }
  if (found.has(own)) return own;
  if (names.length === 1) return names[0] as string;
  if (names.length === 0) {
    throw new LifeboatError('SNAPSHOT_UNKNOWN', `${destination.name} holds no snapshot`, { hint });
  }
  throw new LifeboatError('USAGE', `${destination.name} holds several projects`, {
    hint: `${hint} Name one with --project.`,
  });
}
