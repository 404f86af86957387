import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { hasErrno, LifeboatError } from '../base/errors.ts';
import type { Mount } from '../plan/model.ts';
import { mountHolding } from '../plan/mounts.ts';

/**
 * Refuses a directory of the agent's container that is unsuitable as the target of a restore. Files on the container's
 * own disk are lost with the container and can fill that disk. Files among backups, the spool or the sources do harm
 * there.
 *
 * @param kept directories of the agent, each with a description of its content
 * @throws TREE_TARGET_REFUSED
 */
export async function checkTargetDirectory(
  directory: string,
  mounts: readonly Mount[],
  kept: readonly { directory: string; holds: string }[],
): Promise<void> {
  const real = await realTarget(path.resolve(directory));
  const inside = kept.find((place) => isWithin(real, place.directory) || isWithin(place.directory, real));
  if (inside) {
    throw new LifeboatError('TREE_TARGET_REFUSED', `${directory} is where Lifeboat has ${inside.holds}`, {
      hint: 'Restore into a directory of its own, such as /restored.',
    });
  }
  const mount = mountHolding(real, mounts);
  if (!mount || mount.type === 'tmpfs') {
    throw new LifeboatError('TREE_TARGET_REFUSED', `${directory} is on the Lifeboat container's own disk`, {
      hint: 'Mount a directory into the Lifeboat service, for example `- ./restored:/restored`, and restore below it.',
    });
  }
  if (!mount.writable) {
    throw new LifeboatError('TREE_TARGET_REFUSED', `${directory} is mounted read-only`, {
      hint: `Remove :ro from the mount at ${mount.destination} of the Lifeboat service.`,
    });
  }
}

/** Resolves the symbolic links in a path. Parts that do not exist yet stay as they are. */
async function realTarget(directory: string): Promise<string> {
  try {
    return await realpath(directory);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    return path.join(await realTarget(path.dirname(directory)), path.basename(directory));
  }
}

function isWithin(inner: string, outer: string): boolean {
  const below = path.relative(outer, inner);
  return below === '' || (below !== '..' && !below.startsWith('../'));
}
