import path from 'node:path';
import type { FilesSource, LeftOutData, Mount, VolumeSource } from '../plan/model.ts';
import type { Source } from './source.ts';

/** Where a helper of the agent's image has the volume of a source. */
export const HELPER_ROOT = '/source';

/**
 * Finds the path under which the agent itself has `mount`: the same volume, or a bind of the same host directory or of one
 * above it. A single file is always left to a helper, since only a directory can be read as a tree.
 */
export function pathInAgent(mount: Mount, agentMounts: readonly Mount[]): string | undefined {
  if (mount.kind === 'file') return undefined;
  for (const own of agentMounts) {
    if (mount.type === 'volume' && own.type === 'volume' && own.name === mount.name) return own.destination;
    if (mount.type !== 'bind' || own.type !== 'bind') continue;
    const below = path.posix.relative(own.source, mount.source);
    if (below === '') return own.destination;
    if (!below.startsWith('..') && !path.posix.isAbsolute(below)) return path.posix.join(own.destination, below);
  }
  return undefined;
}

/** Which data directories of databases a tree leaves out: those that are no configuration, or that a dump covers. */
export function leftOutOf(source: VolumeSource | FilesSource): LeftOutData | undefined {
  if (source.kind === 'files') return 'all';
  return source.besidePostgres ? 'PostgreSQL' : undefined;
}

/**
 * A volume as a source. Capturing copies nothing: the tree is the volume itself, read in place where the agent has it
 * mounted, else by a helper that mounts it read-only. What holds it still (stopping the container, hooks) is around the
 * capture, in hold.ts. Loading is the store's extraction into the volume.
 */
export function createVolumeSource(planned: VolumeSource, agentMounts: readonly Mount[]): Source {
  const { mount } = planned;
  const here = pathInAgent(mount, agentMounts);
  const leaveOut = leftOutOf(planned);
  return {
    name: planned.name,
    kind: 'volume',
    capture: (_context, store) =>
      store({
        root: here ?? HELPER_ROOT,
        reach: here === undefined ? { kind: 'helper', mount } : { kind: 'process' },
        include: planned.include,
        exclude: planned.exclude,
        ...(leaveOut ? { leaveOut } : {}),
        facts: {
          kind: 'volume',
          mount: { type: mount.type, name: mount.name ?? null, source: mount.source, destination: mount.destination },
          service: planned.service,
        },
        summary: '',
        warnings: [],
      }),
  };
}
