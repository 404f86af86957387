import { type FileHandle, open, statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasErrno } from '../../base/errors.ts';
import { type DataRanges, findData, lengthOf, pairs } from '../filesystem/data-ranges.ts';
import { type FileStat, fileStat, recentFor } from '../filesystem/file-stat.ts';
import { isAt, READ_FLAGS, sameVersion } from '../filesystem/read-file.ts';
import { companionAt, companionPath, JOURNAL_MAGIC, statAt, usesWal } from './sqlite-file.ts';

const CHUNK = 1024 * 1024;
/** Longer than the times of a file on a local disk can lag behind a change, milliseconds. */
const TICK_MS = 25;
const TICKS = 8;
/**
 * The longest wait for a file system that rounds times, or that a server implements, milliseconds. It leaves room for
 * clocks that differ a little.
 */
const COARSE_WAIT_MS = 3200;
/**
 * Size of a log's header. Its salts change each time the log restarts:
 * https://www.sqlite.org/fileformat2.html#walformat
 */
const WAL_HEADER = 32;
/** Space that stays free in the spool, bytes. */
const MARGIN = 16 * 1024 * 1024;

/** Options of one copy. */
export interface CopyOptions {
  /** SQLite holds a read transaction on the database during the copy */
  locked: boolean;
  /**
   * waits until no transaction is in progress, and prevents new ones until the copy is done; resolves to false if that
   * fails
   */
  hold(): Promise<boolean>;
  /** ends a copy that makes writers wait, as a value of `performance.now()`; the outcome is then `late` */
  deadline?: number | undefined;
  heard(bytes: number): void;
  signal?: AbortSignal | undefined;
}

/** `whole`: together, the copied files are the database at one moment. */
export type CopyOutcome = 'whole' | 'changed' | 'late' | 'busy' | 'super-journal';

/** The states of the files of a database, which show writes to it. */
interface States {
  main: FileStat;
  wal: FileStat | undefined;
  walHeader: Buffer;
  journal: FileStat | undefined;
}

/**
 * Copies a database file with its log and journal to `to`, `to-wal` and `to-journal`, and checks that the copies are of
 * one moment:
 *
 * - With a log, only checkpoints change the main file: they copy pages from the log. Until the log restarts, it still
 *   holds every such page, and replaying it corrects the copy of the main file (https://www.sqlite.org/wal.html). So
 *   the log must not have restarted.
 * - Without a log, nothing may have changed at all. If no journal can undo a partial transaction (`journal_mode`
 *   `MEMORY` or `OFF`), no transaction may be in progress either, which only SQLite's locks show.
 *
 * @param main the open file; the caller has checked that it is at `absolute`
 */
export async function copyDatabase(
  main: FileHandle,
  absolute: Buffer,
  to: string,
  options: CopyOptions,
): Promise<CopyOutcome> {
  const before = await readStableStates(main, absolute, options);
  if (!(await copyTo(main, to, options))) return 'late';
  const header = Buffer.alloc(20);
  await main.read(header, 0, header.length, 0);
  if (before.wal && !(await copyCompanion(absolute, '-wal', to, options))) return 'late';
  // While SQLite reads, the journal holds only pages that are still in the main file.
  const journal = options.locked ? undefined : before.journal;
  if (journal && !(await copyCompanion(absolute, '-journal', to, options))) return 'late';
  if (journal && (await endsWithMagic(`${to}-journal`))) return 'super-journal';
  const isLogged = usesWal(header) || (journal !== undefined && (await isHot(`${to}-journal`)));
  if (!options.locked && !isLogged && !(await options.hold())) return 'busy';
  const after = await readStates(main, absolute);
  if (!isAt(main.fd, absolute)) return 'changed';
  const journalSame = sameFile(before.journal, after.journal);
  if (before.wal && usesWal(header)) return journalSame && sameLog(before, after) ? 'whole' : 'changed';
  const same = sameVersion(before.main, after.main) && !after.wal === !before.wal && sameFile(before.wal, after.wal);
  // Nothing is committed while SQLite reads. A transaction may have started, in its journal.
  return same && (options.locked || (journalSame && !before.main.fresh)) ? 'whole' : 'changed';
}

/** Returns whether the spool has room for a copy, its log, and the pages that the log adds to it. */
export async function hasRoom(spool: string, main: FileHandle, absolute: Buffer): Promise<boolean> {
  const { bavail, bsize } = await statfs(spool);
  const wal = companionAt(absolute, '-wal')?.size ?? 0;
  const journal = companionAt(absolute, '-journal')?.size ?? 0;
  return bavail * bsize >= lengthOf((await dataOf(main)).ranges) + 2 * wal + journal + MARGIN;
}

/**
 * Reads the states of the files. Waits for the clock of the file system, if necessary, so that every further change is
 * visible: for a few ticks, and then once for a coarse clock if the files are quiet. Gives up on a file whose time lies
 * in the future.
 */
async function readStableStates(
  main: FileHandle,
  absolute: Buffer,
  { locked, signal }: Pick<CopyOptions, 'locked' | 'signal'>,
): Promise<States> {
  const first = await readStates(main, absolute);
  let states = first;
  const isStable = () => locked || states.wal !== undefined || !(states.main.fresh || states.journal?.fresh);
  for (let tick = 1; tick < TICKS && !isStable(); tick++) {
    await sleep(TICK_MS, undefined, { signal });
    states = await readStates(main, absolute);
  }
  if (isStable() || !isSame(first.main, states.main) || !isSame(first.journal, states.journal)) return states;
  const { main: file, journal = file } = states;
  const waitMs = Math.max(...[file, journal].map((one) => recentFor(one, Date.now())));
  if (waitMs > COARSE_WAIT_MS) return states;
  await sleep(waitMs + 1, undefined, { signal });
  return readStates(main, absolute);
}

async function readStates(main: FileHandle, absolute: Buffer): Promise<States> {
  const askedAt = Date.now();
  const stat = statAt(absolute, await main.stat({ bigint: true }), askedAt);
  const wal = companionAt(absolute, '-wal');
  const walHeader = wal ? await startOf(companionPath(absolute, '-wal')) : Buffer.alloc(0);
  return { main: stat, wal, walHeader, journal: companionAt(absolute, '-journal') };
}

function sameFile(a: FileStat | undefined, b: FileStat | undefined): boolean {
  return isSame(a, b) && !a?.fresh;
}

function isSame(a: FileStat | undefined, b: FileStat | undefined): boolean {
  return a === undefined || b === undefined ? a === b : sameVersion(a, b);
}

function sameLog(before: States, after: States): boolean {
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

/**
 * Copies a log or journal. One that has vanished is left out, and the later comparison detects that. Throws if it
 * cannot be opened.
 */
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

/**
 * Copies the content that a file has at the start, including its holes, so that the copy of a growing file ends.
 * Returns false after the deadline.
 */
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

/**
 * Returns whether a journal belongs to an unfinished transaction. A journal that stays after its transaction starts
 * with zeros.
 */
async function isHot(path: string): Promise<boolean> {
  const start = await startOf(Buffer.from(path));
  return start.length > 0 && start[0] !== 0;
}

/** Returns whether a journal names a super-journal. */
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
