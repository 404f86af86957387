import path from 'node:path';
import { hasCode, LifeboatError } from '../base/errors.ts';
import type { Plan, PostgresSource, VolumeSource } from '../plan/model.ts';
import type { Rollback } from '../run/state.ts';
import { mountOf } from '../sources/postgres/server/helper-mounts.ts';
import { restoreTarget } from './target.ts';

/**
 * Returns the data directory of a server as a volume that a restore can exchange. The mount may hold more than the data
 * directory, as in the images of Postgres 18. The rest of it stays as it is.
 *
 * @param directory its path in the container, as the server reports it; absent: the likeliest
 * @throws TREE_TARGET_REFUSED if it is neither in a volume nor in a directory of the host
 */
export function dataDirectoryOf(server: PostgresSource, directory?: string): VolumeSource {
  // The server names it, and is not trusted: the path must not lead out of the mount.
  const likely = (directory === undefined ? server.dataDirectories : [directory]).map((one) =>
    path.posix.resolve('/', one),
  );
  for (const one of likely) {
    const mount = mountOf(server.mounts, one);
    if (!mount?.writable) continue;
    const { name, project, service, containerId, containerName, schedule, keep } = server;
    const within = path.posix.relative(mount.destination, one);
    if (within.startsWith('..')) continue;
    return {
      kind: 'volume',
      ...{ name, project, service, containerId, containerName, schedule, keep },
      mount: { ...mount, directory: within },
      ...{ include: [], exclude: [], stop: [] },
    };
  }
  throw new LifeboatError('TREE_TARGET_REFUSED', `${likely[0]} of ${server.containerName} is in no volume`, {
    hint: 'Only a data directory in a volume, or in a directory of the host, can be exchanged. Use --to-volume.',
  });
}

/** Returns all volumes in which a restore may have put data aside: those of a plan, and data directories of servers. */
export function volumesOf({ sources }: Pick<Plan, 'sources'>): VolumeSource[] {
  return sources.flatMap((one): VolumeSource[] => {
    if (one.kind === 'volume') return one.mount.kind === 'file' ? [] : [one];
    if (one.kind !== 'postgres') return [];
    try {
      return [dataDirectoryOf(one)];
    } catch (error) {
      // A data directory that is in no volume cannot be exchanged.
      if (hasCode(error, 'TREE_TARGET_REFUSED')) return [];
      throw error;
    }
  });
}

/**
 * Finds the volume in which a restore put data aside.
 *
 * @throws SOURCE_UNKNOWN if no running container has the source. The data directory of a server is recorded, so it is
 * found although its server does not start
 */
export async function volumeOf(
  deps: { plan(): Promise<Plan> },
  { source, dataDirectory }: Pick<Rollback, 'source' | 'dataDirectory'>,
): Promise<VolumeSource> {
  const { sources = [] } = await deps.plan().catch((): Partial<Plan> => ({}));
  const server = sources.find((one) => one.kind === 'postgres' && one.name === source);
  if (server?.kind !== 'postgres') return dataDirectory ?? restoreTarget(deps, source, 'volume');
  if (!dataDirectory) return dataDirectoryOf(server);
  const { containerId, containerName } = server;
  return { ...dataDirectory, containerId, containerName };
}
