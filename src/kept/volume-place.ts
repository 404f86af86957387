import path from 'node:path';
import type { Log } from '../base/log.ts';
import type { Mount } from '../plan/model.ts';
import type { Reach } from '../sources/source.ts';
import { HELPER_ROOT, pathInAgent } from '../sources/volume.ts';
import { DATA_ROOT } from '../store/filesystem/area.ts';
import type { TreeStore } from '../trees/runner.ts';

/** Where a volume can be reached. */
export interface VolumePlace {
  root: string;
  reach: Reach;
  /** identifies the volume, whatever path it has; absent for a directory of the agent */
  mount?: Mount;
}

/** The restore or rollback that works in a volume. */
export interface VolumeRun {
  id: string;
  /** the journal's file */
  journal: string;
  signal: AbortSignal;
}

/**
 * Returns where the volume of a mount can be written to: in the agent if the agent mounts it, else in a helper. The
 * data directory of a server is always reached in a helper.
 */
export function volumePlace(mount: Mount, agentMounts: readonly Mount[]): VolumePlace {
  if (mount.directory !== undefined)
    return { root: path.posix.join(DATA_ROOT, mount.directory), reach: { kind: 'helper', mount }, mount };
  const here = pathInAgent(
    mount,
    agentMounts.filter(({ writable }) => writable),
  );
  if (here !== undefined) return { root: here, reach: { kind: 'process' }, mount };
  return { root: HELPER_ROOT, reach: { kind: 'helper', mount }, mount };
}

/** Returns the name of a volume as messages show it. */
export function volumeName({ name, source }: Mount): string {
  return name ?? source;
}

/** The dependencies of work in volumes. */
export interface VolumeDeps {
  treeStore: TreeStore;
  log: Log;
  agentMounts: readonly Mount[];
}

/** Returns the name of a volume or directory as messages show it. */
export function placeName({ root, mount }: VolumePlace): string {
  return mount ? volumeName(mount) : root;
}
