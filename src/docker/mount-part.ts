import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import type { Mount } from '../plan/model.ts';
import type { RoleMount } from './helper-kinds.ts';

type Access = 'read-only' | 'read-write';

/**
 * Returns mounts that show files and directories of the agent in a helper, each at the same path and nothing around
 * them. They are mounted by their paths on the host, because engines before 26 cannot mount a part of a volume
 * (`VolumeOptions.Subpath`, API 1.45). The paths must exist. Mounts below them are included. Paths on the agent's own
 * disk, and therefore in the image, are skipped.
 *
 * @throws AGENT_NOT_IN_CONTAINER for a part of a mount that has no path on the host
 */
export function partsOf(agentMounts: readonly Mount[], paths: Readonly<Record<string, Access>>): RoleMount[] {
  const wanted = Object.entries(paths).sort(([a], [b]) => (a < b ? -1 : 1));
  const parts: RoleMount[] = [];
  for (const [at, access] of wanted) {
    // An earlier part includes it already.
    if (parts.some((one) => isWithin(at, one.target) && (one.access === access || access === 'read-only'))) continue;
    const below = agentMounts.filter(({ destination }) => destination !== at && isWithin(destination, at));
    const holding = agentMounts
      .filter(({ destination }) => isWithin(at, destination))
      .sort((a, b) => b.destination.length - a.destination.length)[0];
    if (holding) parts.push({ mount: partOf(holding, at), target: at, access });
    for (const mount of below) parts.push({ mount, target: mount.destination, access });
  }
  return parts;
}

function partOf(mount: Mount, at: string): Mount {
  const below = path.posix.relative(mount.destination, at);
  if (below === '') return mount;
  if (!mount.source.startsWith('/')) {
    throw new LifeboatError(
      'AGENT_NOT_IN_CONTAINER',
      `the ${mount.type} at ${mount.destination} cannot be shared with a helper`,
      { hint: `Mount a volume, or a directory of the host, at ${mount.destination}.` },
    );
  }
  return { type: 'bind', source: path.posix.join(mount.source, below), destination: at, writable: mount.writable };
}

function isWithin(inner: string, outer: string): boolean {
  const below = path.posix.relative(outer, inner);
  return below !== '..' && !below.startsWith('../');
}
