import type { Directory } from '../filesystem/directory.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { OpenDirectories } from '../filesystem/open-directories.ts';
import { split } from '../filesystem/path.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import { KeySet } from '../objects/key-set.ts';
import { isInParts, lastWritten } from '../sqlite/sqlite-file.ts';
import { isEqualFile } from './live-file.ts';

interface DifferingOptions {
  /** as in the options of the build */
  options: { index(): AsyncIterable<IndexLine>; overwrite: boolean };
  select: PathPredicate;
  live: OpenDirectories;
  counts: { equal: number; newer: number };
  heard: () => void;
}

/**
 * Returns the selected entries that have to come from the snapshot, because the volume lacks them or holds something
 * else.
 */
export async function differing({
  options,
  select,
  live,
  counts,
  heard,
}: DifferingOptions): Promise<{ index: AsyncGenerator<IndexLine>; select: PathPredicate }> {
  // All names of a file are restored together: none of them is skipped for being equal.
  const linked = new KeySet();
  for await (const line of options.index()) {
    if (line.type !== 'hardlink') continue;
    const { path: name, target } = line;
    if (target === undefined || !select(name, false)) continue;
    linked.add(target);
    linked.add(name);
  }
  const skipped = new KeySet();
  const isSkipped = async (entry: IndexEntry, directory: Directory, name: string) => {
    const found = directory.look(name);
    if (!found) return false;
    const isDatabase = entry.sqlite !== undefined && found.isFile();
    const inParts = isDatabase && isInParts(directory.at(name));
    if (!linked.has(entry.path) && !inParts && (await isEqual(entry, directory, name, heard))) {
      counts.equal++;
      return true;
    }
    const written = isDatabase ? lastWritten({ mtime: found.mtimeNs }, directory.at(name)) : found.mtimeNs;
    if (options.overwrite || written <= entry.mtime) return false;
    counts.newer++;
    return true;
  };
  const skips = async (entry: IndexEntry) => {
    heard();
    const { parent, name } = split(entry.path);
    return (await live.use(parent, (directory) => isSkipped(entry, directory, name))) ?? false;
  };
  return {
    select: (name, directory) => select(name, directory) && !skipped.has(name),
    index: (async function* () {
      let isYielded = true;
      for await (const entry of options.index()) {
        if (entry.type === 'part') {
          if (isYielded) yield entry;
          continue;
        }
        const wanted = entry.type === 'directory' || !select(entry.path, false);
        isYielded = wanted || !(await skips(entry));
        if (isYielded) yield entry;
        else if (linked.has(entry.path)) skipped.add(entry.path);
      }
    })(),
  };
}

async function isEqual(entry: IndexEntry, directory: Directory, name: string, heard: () => void): Promise<boolean> {
  if (entry.type === 'file') return isEqualFile(directory, name, entry, heard);
  if (entry.type !== 'symlink') return false;
  return directory.look(name)?.isSymbolicLink() === true && directory.readLink(name) === entry.target;
}
