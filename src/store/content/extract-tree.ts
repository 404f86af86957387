import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { LifeboatError } from '../../base/errors.ts';
import { Directory } from '../filesystem/directory.ts';
import { createTimeSetter } from '../filesystem/times.ts';
import type { ExtractedTree, ExtractTreeOptions } from './extracted-tree.ts';
import type { PartTask } from './files-in-parts.ts';
import { TaskLists } from './task-lists.ts';
import { Extraction } from './tree-extraction.ts';

/**
 * Restores a tree into an empty directory: content verified against the index, owners, modes, times to the nanosecond,
 * hard links, holes. Each pack is read once. Nothing outside `target` is reached, even if other programs write there
 * meanwhile: everything is created through open directories, and no symlink is followed. Finally, every name is checked
 * to be where it was created.
 *
 * @throws TREE_TARGET_NOT_EMPTY before anything is written; TREE_TARGET_FULL, TREE_TARGET_REFUSED, OBJECT_MISSING,
 *   OBJECT_DAMAGED, KEY_MISSING, KEY_WRONG, SPOOL_FULL; the signal's reason
 */
export async function extractTree(options: ExtractTreeOptions): Promise<ExtractedTree> {
  const { target } = options;
  if (typeof target !== 'string') return extractInto(target, options);
  await mkdir(target, { recursive: true, mode: 0o700 });
  const directory = Directory.open(target);
  try {
    return await extractInto(directory, options);
  } finally {
    directory.close();
  }
}

async function extractInto(target: Directory, options: ExtractTreeOptions): Promise<ExtractedTree> {
  if (target.names().length > 0) {
    throw new LifeboatError('TREE_TARGET_NOT_EMPTY', `the directory ${target.place} is not empty`, {
      hint: 'Restore into a new directory, check its content, then move it.',
    });
  }
  const times = await createTimeSetter(target);
  const lists = new TaskLists<PartTask>(options.spool);
  const extraction = new Extraction({ ...options, target }, times, lists);
  try {
    const result = await extraction.run();
    if (options.durable) await syncFileSystem(target);
    return result;
  } catch (error) {
    await times.abort();
    throw error;
  } finally {
    extraction.close();
    await lists.close();
  }
}

/**
 * Makes the whole tree durable with one call: a sync for each file would take far longer. It also reports failed
 * writes.
 */
export async function syncFileSystem(target: Directory): Promise<void> {
  const child = spawn('sync', ['-f', '--', '/proc/self/fd/3'], { stdio: ['ignore', 'ignore', 'ignore', target.fd] });
  const failed = (cause: unknown) =>
    new LifeboatError('TOOL_FAILED', `the files restored to ${target.place} could not be written to the disk`, {
      cause,
    });
  const [status, signal] = await once(child, 'close').catch((error: unknown) => {
    throw failed(error);
  });
  if (status !== 0) throw failed(new Error(`sync ended with ${signal ?? `status ${status}`}`));
}
