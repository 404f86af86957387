import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { within } from '../filesystem/open-directories.ts';
import type { TreePath } from '../filesystem/path.ts';
import { createTimeSetter, PathChanged } from '../filesystem/times.ts';
import type { ExchangeStep } from './move-list.ts';

/** The directory for replaced content, inside its area. */
export const KEPT = 'tree';

/**
 * Sets owners, modes and times of the directories in which something moved. With `after`, the directories in the area
 * get the metadata from before.
 *
 * @param area name of the area
 */
export async function setDirectoryMeta(
  root: Directory,
  area: string,
  steps: AsyncGenerator<ExchangeStep>,
  which: 'before' | 'after',
): Promise<void> {
  const times = await createTimeSetter(root);
  const kept = `${area}/${KEPT}`;
  try {
    for await (const step of steps) {
      if (step.type === 'move') continue;
      if (step.type === 'make' && which === 'before') continue;
      const meta = step.type === 'make' ? step.meta : step[which];
      const set = (at: TreePath, wanted: DirectoryMeta) =>
        within(root, at, (directory) => {
          directory.own(wanted);
          return times.set(at, wanted.mtime);
        });
      await set(step.path, meta);
      if (which === 'after' && step.type === 'directory') await set(joined(kept, step.path), step.before);
    }
    await times.finish();
  } catch (error) {
    await times.abort();
    // An application has removed or moved a directory since: its time no longer matters.
    if (!(error instanceof PathChanged)) throw error;
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
