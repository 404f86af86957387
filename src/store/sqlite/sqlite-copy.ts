import { type FileHandle, open, statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasErrno } from '../../base/errors.ts';
import { type DataRanges, findData, lengthOf, pairs } from '../filesystem/data-ranges.ts';
import { type FileStat, fileStat } from '../filesystem/file-stat.ts';
import { isAt, READ_FLAGS, sameVersion } from '../filesystem/read-file.ts';
import { companionAt, companionPath, JOURNAL_MAGIC, usesWal } from './sqlite-file.ts';

const CHUNK = 1024 * 1024;
/** Longer than a file's times can lag behind a change to it, milliseconds. */
const TICK_MS = 25;
const TICKS = 8;
/** A log's header has the salts that are new each time it begins again: https://www.sqlite.org/fileformat2.html#walformat */
const WAL_HEADER = 32;
/** What the spool keeps free, bytes. */
const MARGIN = 16 * 1024 * 1024;

/** How one copy is made. */
export interface CopyOptions {
  /** SQLite holds a read transaction on the database meanwhile */
  locked: boolean;
  /** waits until no transaction is under way, and keeps others from it until the copy is done; false when that cannot be had */
  hold(): Promise<boolean>;
  /** ends a copy for which others have to wait; then it counts as changed */
  deadline?: number | undefined;
  heard(bytes: number): void;
  signal?: AbortSignal | undefined;
}

/** `whole`: the copied files are, together, the database at one moment. */
export type CopyOutcome = 'whole' | 'changed' | 'late' | 'busy' | 'super-journal';

/** What of a database can tell that it was written to. */
interface Look {
  main: FileStat;
  wal: FileStat | undefined;
  walHeader: Buffer;
  journal: FileStat | undefined;
}

/**
 * Copies a database file with its log and journal to `to`, `to-wal` and `to-journal`, and tells whether these are of one moment:
 *
 * - With a log, the main file changes only by checkpoints, which copy pages out of the log. As long as the log does not begin
 *   again from its start, it still holds every such page; whatever the main file's copy has of them, replaying the log puts
 *   them right (https://www.sqlite.org/wal.html). So it is the log that must not have begun again.
 * - Otherwise nothing may have changed at all. Without a journal that takes back what a transaction wrote so far (`journal_mode`
 *   `MEMORY` or `OFF`), no transaction may be under way either, which only SQLite's locks tell.
 *
 * @param main the open file; the caller made sure that it is at `absolute`
 */
export async function copyDatabase(
  main: FileHandle,
  absolute: Buffer,
  to: string,
  options: CopyOptions,
): Promise<CopyOutcome> {
  const before = await settledLook(main, absolute, options.locked);
  if (!(await copyTo(main, to, options))) return 'late';
  const header = Buffer.alloc(20);
  await main.read(header, 0, header.length, 0);
  if (before.wal && !(await copyCompanion(absolute, '-wal', to, options))) return 'late';
  // While SQLite reads, a journal holds nothing but what is in the main file still.
  const journal = options.locked ? undefined : before.journal;
  if (journal && !(await copyCompanion(absolute, '-journal', to, options))) return 'late';
  if (journal && (await endsWithMagic(`${to}-journal`))) return 'super-journal';
  const isLogged = usesWal(header) || (journal !== undefined && (await isHot(`${to}-journal`)));
  if (!options.locked && !isLogged && !(await options.hold())) return 'busy';
  const after = await lookAtAll(main, absolute);
  if (!isAt(main.fd, absolute)) return 'changed';
  const journalSame = sameFile(before.journal, after.journal);
  if (before.wal && usesWal(header)) return journalSame && sameLog(before, after) ? 'whole' : 'changed';
  const same = sameVersion(before.main, after.main) && !after.wal === !before.wal && sameFile(before.wal, after.wal);
  // Nothing is committed while SQLite reads; a transaction may have begun, in its journal.
  return same && (options.locked || (journalSame && !before.main.fresh)) ? 'whole' : 'changed';
}

/** True when the spool has room for a copy, its log, and what the log adds to it. */
export async function hasRoom(spool: string, main: FileHandle, absolute: Buffer): Promise<boolean> {
  const { bavail, bsize } = await statfs(spool);
  const wal = companionAt(absolute, '-wal')?.size ?? 0;
  const journal = companionAt(absolute, '-journal')?.size ?? 0;
  return bavail * bsize >= lengthOf((await dataOf(main)).ranges) + 2 * wal + journal + MARGIN;
}

/** A look after which every further change shows, where that can be had by waiting for the clock of the files. */
async function settledLook(main: FileHandle, absolute: Buffer, locked: boolean): Promise<Look> {
  for (let tick = 1; ; tick++) {
    const look = await lookAtAll(main, absolute);
    if (locked || look.wal || tick === TICKS || !(look.main.fresh || look.journal?.fresh)) return look;
    await sleep(TICK_MS);
  }
}

async function lookAtAll(main: FileHandle, absolute: Buffer): Promise<Look> {
  const askedAt = Date.now();
  const stat = fileStat(await main.stat({ bigint: true }), askedAt);
  const wal = companionAt(absolute, '-wal');
  const walHeader = wal ? await startOf(companionPath(absolute, '-wal')) : Buffer.alloc(0);
  return { main: stat, wal, walHeader, journal: companionAt(absolute, '-journal') };
}

function sameFile(a: FileStat | undefined, b: FileStat | undefined): boolean {
  return a === undefined || b === undefined ? a === b : sameVersion(a, b) && !a.fresh;
}

function sameLog(before: Look, after: Look): boolean {
  if (!before.wal || !after.wal || before.walHeader.length < WAL_HEADER) return false;
  return (
    before.wal.ino === after.wal.ino && after.wal.size >= before.wal.size && before.walHeader.equals(after.walHeader)
  );
}

async function startOf(path: Buffer): Promise<Buffer> {
  const file = await open(path, READ_FLAGS).catch(() => undefined);
  if (!file) return Buffer.alloc(0);
  try {
    const buffer = Buffer.alloc(WAL_HEADER);
    const { bytesRead } = await file.read(buffer, 0, WAL_HEADER, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** A companion that is gone meanwhile is left out: the look afterwards sees it. Throws when it cannot be opened. */
async function copyCompanion(absolute: Buffer, companion: '-wal' | '-journal', to: string, options: CopyOptions) {
  const path = companionPath(absolute, companion);
  const file = await open(path, READ_FLAGS).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  });
  if (!file) return true;
  try {
    return !isAt(file.fd, path) || (await copyTo(file, to + companion, options));
  } finally {
    await file.close();
  }
}

/** Size of a file, and where its data is: all of it for a file without holes. */
async function dataOf(file: FileHandle): Promise<{ size: number; ranges: DataRanges }> {
  const { size, sparse } = fileStat(await file.stat({ bigint: true }), Date.now());
  return { size, ranges: (sparse ? await findData(file.fd, size) : undefined) ?? [0, size] };
}

/** Copies what a file holds when it begins, its holes as holes: one that grows all the time has an end all the same. False when it was late. */
async function copyTo(from: FileHandle, to: string, { deadline, heard, signal }: CopyOptions): Promise<boolean> {
  const target = await open(to, 'wx', 0o600);
  try {
    const { size, ranges } = await dataOf(from);
    const buffer = Buffer.allocUnsafeSlow(CHUNK);
    for (const { offset, length } of pairs(ranges)) {
      for (let at = offset; at < offset + length; ) {
        signal?.throwIfAborted();
        if (deadline !== undefined && performance.now() > deadline) return false;
        const { bytesRead } = await from.read(buffer, 0, Math.min(CHUNK, offset + length - at), at);
        if (bytesRead === 0) return true;
        await target.write(buffer, 0, bytesRead, at);
        at += bytesRead;
        heard(bytesRead);
      }
    }
    await target.truncate(size);
    return true;
  } finally {
    await target.close();
  }
}

/** False for a journal that stays after its transaction: its start is overwritten with zeros. */
async function isHot(path: string): Promise<boolean> {
  const start = await startOf(Buffer.from(path));
  return start.length > 0 && start[0] !== 0;
}

/** True for a journal that names a super-journal. */
async function endsWithMagic(path: string): Promise<boolean> {
  const file = await open(path, 'r').catch(() => undefined);
  if (!file) return false;
  try {
    const { size } = await file.stat();
    const buffer = Buffer.alloc(JOURNAL_MAGIC.length);
    await file.read(buffer, 0, buffer.length, Math.max(0, size - buffer.length));
    return buffer.equals(JOURNAL_MAGIC);
  } finally {
    await file.close();
  }
}
