import type { Directory } from '../filesystem/directory.ts';
import { within } from '../filesystem/open-directories.ts';
import type { TreePath } from '../filesystem/path.ts';
import { createTimeSetter, PathChanged } from '../filesystem/times.ts';
import type { ExchangeStep } from './move-list.ts';

/** The directory for replaced content, inside its area. */
export const KEPT = 'tree';

/**
 * Sets the times of the directories in which something moved, and the owner, mode and time of the root. With `after`,
 * the directories in the area get the metadata from before the exchange. Owners and modes of other directories are not
 * set: a rename does not change them, and another program could replace such a directory meanwhile.
 */
export async function setDirectoryMeta(
  root: Directory,
  area: Directory,
  steps: AsyncGenerator<ExchangeStep>,
  which: 'before' | 'after',
): Promise<void> {
  const setters = await Promise.all([createTimeSetter(root), createTimeSetter(area)]);
  const [times, keptTimes] = setters;
  try {
    for await (const step of steps) {
      if (step.type === 'move') continue;
      if (step.type === 'make' && which === 'before') continue;
      const { mtime, ...owner } = step.type === 'make' ? step.meta : step[which];
      // A merge keeps the owner and mode of the root, which a service may have changed since.
      if (step.path === '' && step.type === 'directory' && !sameOwner(step)) root.own({ mtime, ...owner });
      await within(root, step.path, () => times.set(step.path, mtime));
      if (which !== 'after' || step.type !== 'directory') continue;
      const kept = joined(KEPT, step.path);
      await within(area, kept, (directory) => {
        directory.own(step.before);
        return keptTimes.set(kept, step.before.mtime);
      });
    }
  } catch (error) {
    await Promise.all(setters.map((one) => one.abort()));
    throw error;
  }
  for (const one of setters) {
    // An application has removed or moved a directory since: its time no longer matters.
    await one.finish().catch((error: unknown) => {
      if (!(error instanceof PathChanged)) throw error;
    });
  }
}

function sameOwner({ before, after }: ExchangeStep & { type: 'directory' }): boolean {
  return before.uid === after.uid && before.gid === after.gid && before.mode === after.mode;
}

/** Makes the moves of an exchange durable, in the volume and in the area. */
export async function syncDirectories(
  root: Directory,
  area: Directory,
  steps: AsyncGenerator<ExchangeStep>,
): Promise<void> {
  for await (const { type, path } of steps) {
    if (type === 'move') continue;
    within(root, path, (directory) => directory.sync());
    within(area, joined(KEPT, path), (directory) => directory.sync());
  }
  root.sync();
}

/** Sets the time of a volume's root, nanoseconds since 1970. */
export async function setRootTime(root: Directory, mtime: bigint): Promise<void> {
  const times = await createTimeSetter(root);
  await times.set('', mtime);
  await times.finish();
}

/** Joins paths, skipping empty ones. */
export function joined(...parts: TreePath[]): TreePath {
  return parts.filter((part) => part !== '').join('/');
}
