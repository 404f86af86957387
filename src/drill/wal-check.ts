import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
import { inParallel } from '../base/in-parallel.ts';
import { plural } from '../report/format.ts';
import type { Start } from '../restore/point/find-start.ts';
import type { ObjectRef } from '../store/objects/manifest.ts';
import { fetchFile } from '../store/objects/objects.ts';
import { DamageJudge, isDamage } from '../store/repository/damage.ts';
import type { Repository } from '../store/repository/repository.ts';
import { parseLsn, parseSegmentName, startOf } from '../store/wal/names.ts';
import { neededWal } from '../store/wal/needed.ts';
import { isOtherSegment } from '../store/wal/records.ts';
import { isBaseOf, type Window } from '../store/wal/windows.ts';
import { noneOf } from './checks/check.ts';
import { type Part, step } from './context.ts';

/** Files of WAL that are read at the same time, at least and at most. One needs about a round trip to a far place. */
const AT_ONCE = [2, 8] as const;

/** Each file of WAL is in the spool while it is read. More of them than the least share this space, bytes. */
const IN_SPOOL = 128 * 1024 ** 2;

/** The recovery comes after the WAL, and needs most of the time that is left. */
const SHARE_OF_TIME = 0.25;

/** The longest time for reading WAL, milliseconds. A drill between two backups may have no more than an hour. */
const LIMIT_MS = 30 * 60_000;

/** The bytes at the beginning of a segment that say which one it is. */
const HEADER = 40;

/** A stored file of WAL: a segment, the beginning or a part of one, or a history file. */
type WalFile = ObjectRef & { name?: string; isOpen?: true };

/**
 * Checks all WAL from the base backup of a recovery to the end of what is stored. A recovery to a point in time reads
 * only the WAL before that point. Reads as many files as there is time for, from a random one on: over time, drills
 * read all of them.
 *
 * @param random from 0, below 1
 * @throws DEST_* and other errors that say nothing about the WAL
 */
export async function checkWal(
  repository: Repository,
  part: Part,
  { server, start }: { server: string; start: Start },
  random: number,
): Promise<void> {
  const { result } = part;
  const lost = start.problems.map(({ code, message }) => `${message} (${code})`);
  const behind = behindWindow(start);
  result.checks.push(noneOf('stored write-ahead log', server, behind === undefined ? lost : [...lost, behind]));
  await step(part, 'reading the write-ahead log', async () => {
    const name = 'SHA-256 of the write-ahead log';
    const all = filesOf(start);
    const first = Math.floor(all.length * random);
    const files = [...all.slice(first), ...all.slice(0, first)];
    const { read, damaged } = await readAll(repository, part, { start, files });
    if (read > 0 || all.length === 0)
      result.checks.push(noneOf(name, server, damaged, `${plural(read, 'file')} from the base backup on`));
    const left = all.length - read;
    if (left === 0) return;
    const detail = `there was no time to read ${left} of ${plural(all.length, 'file')}`;
    result.checks.push({ name, of: server, result: 'skipped', detail });
  });
}

/** Says that WAL is stored which no recovery reaches, because WAL before it is missing. */
function behindWindow({ log, window, windows }: Start): string | undefined {
  const { segmentSize, segments, partials, gaps } = log.wal;
  const own = windows.filter(({ bases: [base] }) => base && isBaseOf(base, log.wal));
  // An older window ends at a hole that a later base backup has closed.
  const last = own.filter(({ timeline }) => timeline === window.timeline).reduce(laterOf, window);
  const end = parseLsn(last.toLsn);
  const isBehind = ({ name }: { name: string }) => {
    const at = parseSegmentName(name, segmentSize);
    if (!at) return false;
    if (at.timeline === window.timeline) return startOf(at.number, segmentSize) >= end;
    // A window of a later timeline has a drill of its own.
    return at.timeline > window.timeline && !own.some(({ timeline }) => timeline === at.timeline);
  };
  const behind = [...segments, ...partials].filter(isBehind).map(({ name }) => name);
  if (behind.length === 0) return undefined;
  const why = gaps.findLast(({ at }) => Date.parse(at) >= Date.parse(last.to) - 1000)?.why;
  const first = behind.sort()[0];
  return `no recovery reaches ${plural(behind.length, 'segment')} from ${first} on: ${why ?? 'WAL before it is not stored'}`;
}

function laterOf(a: Window, b: Window): Window {
  return parseLsn(b.toLsn) > parseLsn(a.toLsn) ? b : a;
}

function filesOf({ log, base }: Start): WalFile[] {
  const { objects, open: parts } = neededWal(log, [base], false);
  const lost = new Set(log.lost.map(({ key }) => key));
  return [...objects.filter(({ key }) => !lost.has(key)), ...parts.map((one) => ({ ...one, isOpen: true as const }))];
}

/** Reads and hashes files while there is time. Returns how many it has read, and what is wrong with some of them. */
async function readAll(
  repository: Repository,
  { context, signal, until }: Part,
  { start, files }: { start: Start; files: readonly WalFile[] },
): Promise<{ read: number; damaged: string[] }> {
  const now = performance.now();
  const limit = now + Math.min(LIMIT_MS, (until - now) * SHARE_OF_TIME);
  const { destination, keys } = repository;
  const damaged: { words: string; error?: unknown }[] = [];
  let number = 0;
  const readOne = async (file: WalFile) => {
    const copy = path.join(context.directory, `wal-${number++}`);
    try {
      await fetchFile(destination, file, copy, { keys, signal, maxSize: start.log.wal.segmentSize });
      if (await isElsewhere(copy, file, start)) damaged.push({ words: `${file.key} is another segment` });
    } catch (error) {
      signal.throwIfAborted();
      if (!isDamage(error)) throw error;
      const { code, message } = errorInfo(error);
      // It was there when the log was read. The receiver has stored more of this segment since then.
      if (code === 'OBJECT_MISSING' && file.isOpen) return;
      damaged.push({ words: `${message} (${code})`, error });
    } finally {
      await rm(copy, { force: true });
    }
  };
  const each = async function* () {
    for (const file of files) if (performance.now() < limit) yield file;
  };
  const { segmentSize } = start.log.wal;
  const atOnce = Math.max(AT_ONCE[0], Math.min(AT_ONCE[1], Math.floor(IN_SPOOL / segmentSize)));
  await inParallel(atOnce, each(), readOne, signal);
  const first = damaged.find(({ error }) => error !== undefined);
  // An unplugged disk has no files at all.
  if (first && !(await new DamageJudge(repository, async () => []).isThere())) throw first.error;
  return { read: number, damaged: damaged.map(({ words }) => words).sort() };
}

async function isElsewhere(copy: string, { name = '' }: WalFile, { log, base }: Start): Promise<boolean> {
  const at = parseSegmentName(name, log.wal.segmentSize);
  if (!at) return false;
  const handle = await open(copy);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEADER), 0, HEADER, 0);
    const address = startOf(at.number, log.wal.segmentSize);
    return isOtherSegment(buffer.subarray(0, bytesRead), { address, systemId: base.systemId });
  } finally {
    await handle.close();
  }
}
