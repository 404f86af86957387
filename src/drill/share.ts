import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { DrillReport } from '../report/drill-report.ts';
import { storedSize } from '../store/filesystem/data-ranges.ts';
import type { IndexEntry } from '../store/filesystem/index-file.ts';
import { encodeIndexEntry } from '../store/filesystem/index-file.ts';
import { encodePart } from '../store/filesystem/index-part.ts';
import type { TreePath } from '../store/filesystem/path.ts';
import { readIndexFileLines } from '../store/filesystem/read-index.ts';

/** The files to restore in one drill of a large volume. */
export interface Share {
  /** above 0, up to 1 */
  size: number;
  /** where the share begins, from 0, below 1: each drill goes on where the one before it ended */
  from: number;
}

/** The content of an index, or the share of it. Bytes are those of contents, once for all names of a file. */
export interface IndexContent {
  /** files and hard links */
  files: number;
  symlinks: number;
  directories: number;
  bytes: number;
  /** the bytes without the holes of sparse files, which a restore does not write */
  stored: number;
  /** all files and hard links of the index, and the bytes of the files */
  whole: { files: number; bytes: number };
}

/**
 * Returns where the next share of a source begins: where the last one that was compared ended. A random place if there
 * is none: it must not depend on how many drills of other sources there were.
 *
 * @param earlier oldest first
 * @param random from 0, below 1
 */
export function nextShare(earlier: readonly DrillReport[], source: string, random: number): number {
  const last = earlier
    .flatMap(({ results }) => results)
    .findLast((one) => one.source === source && one.status !== 'interrupted' && one.shareFrom !== undefined);
  return last?.shareFrom === undefined ? random : (last.shareFrom + (last.share ?? 0)) % 1;
}

/** Returns whether a file is in a share. Where its path falls is random, and the same in every drill. */
export function isInShare(path: TreePath, { size, from }: Share): boolean {
  if (size >= 1) return true;
  const place = createHash('sha256').update(path, 'latin1').digest().readUInt32BE() / 2 ** 32;
  return (place - from + 1) % 1 < size;
}

/**
 * Writes the share of an index to a file, which is an index too: all directories and symlinks, and the chosen files. A
 * hard link is chosen with the file that it names.
 */
export async function writeShare(from: string, to: string, share: Share): Promise<IndexContent> {
  const content: IndexContent = {
    ...{ files: 0, symlinks: 0, directories: 0, bytes: 0, stored: 0 },
    whole: { files: 0, bytes: 0 },
  };
  async function* chosen(): AsyncGenerator<string> {
    let isTaken = false;
    for await (const line of readIndexFileLines(from)) {
      if (line.type === 'part') {
        if (isTaken) yield encodePart(line);
        continue;
      }
      if (line.type === 'file' || line.type === 'hardlink') {
        content.whole.files++;
        content.whole.bytes += line.type === 'file' ? (line.size ?? 0) : 0;
      }
      isTaken = isChosen(line, share);
      if (!isTaken) continue;
      if (line.type === 'file') {
        content.bytes += line.size ?? 0;
        content.stored += storedSize(line);
      }
      if (line.type === 'file' || line.type === 'hardlink') content.files++;
      if (line.type === 'symlink') content.symlinks++;
      if (line.type === 'directory') content.directories++;
      yield encodeIndexEntry(line);
    }
  }
  await pipeline(chosen, createWriteStream(to, { mode: 0o600 }));
  return content;
}

function isChosen({ path, type, target }: IndexEntry, share: Share): boolean {
  if (type === 'file') return isInShare(path, share);
  return type !== 'hardlink' || isInShare(target ?? path, share);
}
