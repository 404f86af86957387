import { closeSync, constants, fchmodSync, fchownSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { LifeboatError } from '../../base/errors.ts';
import { syncFileSystem } from '../content/extract-tree.ts';
import { Directory } from '../filesystem/directory.ts';
import type { FileStat } from '../filesystem/file-stat.ts';
import { OpenDirectories } from '../filesystem/open-directories.ts';
import { shortPath, split, type TreePath } from '../filesystem/path.ts';
import { walk } from '../filesystem/walk.ts';
import { type AreaOptions, type Building, type BuiltAreas, buildInArea } from './build-area.ts';
import { planWhole } from './exchange-plan.ts';
import { checkSteps } from './movable.ts';

interface CopyOptions extends AreaOptions {
  /** absolute path of the tree to copy. Nothing may change it meanwhile */
  from: string;
  signal: AbortSignal;
  /** called for each file; `done` in bytes */
  progress(progress: { done: number; files: number }): void;
}

/** The result of a copy. */
export interface CopiedTree {
  files: number;
  bytes: number;
  areas: BuiltAreas;
}

/**
 * Builds a copy of another tree in an area at the top of a volume. Nothing else in the volume changes. Owners and modes
 * are those of the tree, times are not. File systems that can do so share the blocks of both until one is written to.
 *
 * @throws TREE_TARGET_FULL, before anything is written or later; TREE_UNREADABLE; TREE_TARGET_REFUSED if the present
 *   content of the volume cannot be moved. A failed copy leaves nothing behind.
 */
export function copyTree(options: CopyOptions): Promise<CopiedTree> {
  return buildInArea(options, (building) => copyInto(building, options));
}

async function copyInto(
  { root, before, area, target }: Building,
  { from, signal, progress }: CopyOptions,
): Promise<Omit<CopiedTree, 'areas'>> {
  await checkSteps(root, planWhole(root, target, before), area);
  const source = Directory.open(from);
  const [reading, writing] = [new OpenDirectories(source), new OpenDirectories(target)];
  const copied = { files: 0, bytes: 0 };
  try {
    for await (const { path, stat, target: link, error } of walk(source, { signal })) {
      if (error) throw unreadable(path, error);
      const { parent, name } = split(path);
      if (path === '') target.own(stat);
      else if (stat.type === 'directory') writing.need(parent, (to) => makeDirectory(to, name, stat));
      else if (stat.type === 'symlink') writing.need(parent, (to) => to.createLink(name, link ?? '', stat));
      else if (stat.type === 'file')
        await reading.need(parent, (at) => writing.need(parent, (to) => copyOne(at, to, name, stat)));
      else continue;
      if (stat.type !== 'file') continue;
      copied.files++;
      copied.bytes += stat.size;
      progress({ done: copied.bytes, files: copied.files });
    }
    await syncFileSystem(target);
    return copied;
  } finally {
    reading.close();
    writing.close();
    source.close();
  }
}

function makeDirectory(parent: Directory, name: string, stat: FileStat): void {
  const made = parent.make(name);
  made.own(stat);
  made.close();
}

async function copyOne(from: Directory, to: Directory, name: string, { uid, gid, mode }: FileStat): Promise<void> {
  const source = from.openFile(name);
  try {
    const copy = to.createFile(name);
    try {
      await copyFile(`/proc/self/fd/${source}`, `/proc/self/fd/${copy}`, constants.COPYFILE_FICLONE);
      fchownSync(copy, uid, gid);
      fchmodSync(copy, mode);
    } finally {
      closeSync(copy);
    }
  } finally {
    closeSync(source);
  }
}

function unreadable(path: TreePath, cause: Error): LifeboatError {
  return new LifeboatError('TREE_UNREADABLE', `${shortPath(path)} cannot be read`, { cause });
}
