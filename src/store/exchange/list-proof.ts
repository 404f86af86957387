import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, fsyncSync } from 'node:fs';
import type { Directory } from '../filesystem/directory.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { COPY, isOwnFile, type ListProof, listName, writeAll } from './move-list.ts';

/** Verifies the list of moves of an area, which other programs may have changed. */

/**
 * Returns the SHA-256 of the list of an area, hexadecimal; undefined without a list that is a regular file of that
 * size. A program can make the file larger while it is read, so no more than that is read.
 */
export async function sumMoves(area: Directory, size: number): Promise<string | undefined> {
  const hash = createHash('sha256');
  const whole = await readList(area, size, (chunk) => hash.update(chunk));
  return whole ? hash.digest('hex') : undefined;
}

/** Returns the SHA-256 and the size of the list of an area that only Lifeboat can write to. */
export async function proofOf(area: Directory): Promise<ListProof> {
  const size = Number(area.look(listName(area))?.size ?? 0n);
  return { list: (await sumMoves(area, size)) ?? '', size };
}

/** Reads a list of a known size. Resolves to false if it has another size, or is not a regular file. */
async function readList(area: Directory, size: number, use: (chunk: Buffer) => void): Promise<boolean> {
  const name = listName(area);
  if (!area.look(name)?.isFile()) return false;
  const fd = area.openFile(name);
  const stat = fstatSync(fd);
  if (!stat.isFile() || stat.size !== size) {
    closeSync(fd);
    return false;
  }
  let read = 0;
  for await (const chunk of createReadStream('', { fd, start: 0, end: size }) as AsyncIterable<Buffer>) {
    read += chunk.length;
    use(chunk);
  }
  return read === size;
}

/**
 * Replaces a list that other users may write to by a copy that only this process's user can write to. The copy is the
 * one that is verified: a program that has the old file open can still change that.
 *
 * @returns false if the list is another one; it stays then
 */
export async function secureMoves(area: Directory, { list, size }: ListProof): Promise<boolean> {
  const name = listName(area);
  const stat = area.look(name);
  if (stat && isOwnFile(area, stat)) return (await sumMoves(area, size)) === list;
  if (area.look(COPY)) removeTree(area, COPY);
  const copy = area.createFile(COPY);
  const hash = createHash('sha256');
  let same = false;
  try {
    const whole = await readList(area, size, (chunk) => writeAll(copy, chunk, hash));
    fsyncSync(copy);
    same = whole && hash.digest('hex') === list;
  } finally {
    closeSync(copy);
    if (!same) area.unlink(COPY);
  }
  if (same) area.replace(COPY, area, name);
  area.sync();
  return same;
}
