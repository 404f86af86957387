import path from 'node:path';
import type { FilesSource, Mount, VolumeSource } from '../plan/model.ts';
import type { FileMounts, HostView, LeftOutData } from '../plan/values/file-mounts.ts';
import type { Reach, Source } from './source.ts';

/** The path at which a helper of the agent's image mounts the volume of a source. */
export const HELPER_ROOT = '/source';

/**
 * Finds the path at which the agent itself sees `mount`: the agent mounts the same volume, or binds the same host
 * directory or a parent of it. Returns undefined for a single file, because only a directory can be read as a tree.
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

/**
 * Returns which data directories of databases a tree leaves out: all of them in configuration, else those that a dump
 * covers.
 */
export function leftOutOf(source: VolumeSource | FilesSource): LeftOutData | undefined {
  if (source.kind === 'files') return 'all';
  return source.withPostgres ? 'PostgreSQL' : undefined;
}

/**
 * Returns what containers mount from inside the tree of a source, with the paths at which the reader of the tree sees
 * the host. Returns undefined if they mount nothing.
 */
export function fileMountsIn(
  { fileMounts: paths = [] }: VolumeSource | FilesSource,
  reach: Reach,
  agentMounts: readonly Mount[],
): FileMounts | undefined {
  if (paths.length === 0) return undefined;
  if (reach.kind === 'helper') return { paths, views: [{ host: reach.mount.source, local: HELPER_ROOT }] };
  const views = agentMounts
    .filter(({ source }) => source !== '')
    .map(({ source, destination }): HostView => ({ host: source, local: destination }));
  return { paths, views };
}

/**
 * Creates a source for a volume. Capturing copies nothing: the tree is the volume itself. The agent reads it in place
 * if it mounts the volume, else a helper mounts it read-only. hold.ts stops containers and runs hooks around the
 * capture. A restore extracts the tree into the volume.
 */
export function createVolumeSource(planned: VolumeSource, agentMounts: readonly Mount[]): Source {
  const { mount } = planned;
  const here = pathInAgent(mount, agentMounts);
  const reach: Reach = here === undefined ? { kind: 'helper', mount } : { kind: 'process' };
  const leaveOut = leftOutOf(planned);
  const fileMounts = fileMountsIn(planned, reach, agentMounts);
  return {
    name: planned.name,
    kind: 'volume',
    capture: (_context, store) =>
      store({
        root: here ?? HELPER_ROOT,
        reach,
        include: planned.include,
        exclude: planned.exclude,
        ...(leaveOut ? { leaveOut } : {}),
        ...(fileMounts ? { fileMounts } : {}),
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
