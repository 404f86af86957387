import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
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
      if (step.path === '') root.own({ mtime, ...owner });
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

/** Sets the owner, mode and time of a volume's root. */
export async function setMeta(root: Directory, meta: DirectoryMeta): Promise<void> {
  root.own(meta);
  const times = await createTimeSetter(root);
  await times.set('', meta.mtime);
  await times.finish();
}

/** Joins paths, skipping empty ones. */
export function joined(...parts: TreePath[]): TreePath {
  return parts.filter((part) => part !== '').join('/');
}
