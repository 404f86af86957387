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
import { noneOf } from './checks/check.ts';
import { type Part, step } from './context.ts';

/** Files of WAL that are read at the same time. Each is in the spool while it is read. */
const AT_ONCE = 2;

/** The bytes at the beginning of a segment that say which one it is. */
const HEADER = 40;

/** A stored file of WAL: a segment, the beginning or a part of one, or a history file. */
type WalFile = ObjectRef & { name?: string; isOpen?: true };

/**
 * Checks all WAL from the base backup of a recovery to the end of what is stored. A recovery to a point in time reads
 * only the WAL before that point.
 *
 * @throws DEST_* and other errors that say nothing about the WAL
 */
export async function checkWal(
  repository: Repository,
  part: Part,
  { server, start }: { server: string; start: Start },
): Promise<void> {
  const { result } = part;
  const lost = start.problems.map(({ code, message }) => `${message} (${code})`);
  const behind = behindWindow(start);
  result.checks.push(noneOf('stored write-ahead log', server, behind === undefined ? lost : [...lost, behind]));
  await step(part, 'reading the write-ahead log', async () => {
    const files = filesOf(start);
    const damaged = await readAll(repository, part, { start, files });
    const detail = `${plural(files.length, 'file')} from the base backup on`;
    result.checks.push(noneOf('SHA-256 of the write-ahead log', server, damaged, detail));
  });
}

/** Says that WAL is stored which no recovery reaches, because WAL before it is missing. */
function behindWindow({ log, window, windows }: Start): string | undefined {
  const { segmentSize, segments, partials, gaps } = log.wal;
  const end = parseLsn(window.toLsn);
  const isBehind = ({ name }: { name: string }) => {
    const at = parseSegmentName(name, segmentSize);
    if (!at) return false;
    if (at.timeline === window.timeline) return startOf(at.number, segmentSize) >= end;
    // A window of a later timeline has a drill of its own.
    return at.timeline > window.timeline && !windows.some(({ timeline }) => timeline === at.timeline);
  };
  const behind = [...segments, ...partials].filter(isBehind).map(({ name }) => name);
  if (behind.length === 0) return undefined;
  const why = gaps.findLast(({ at }) => Date.parse(at) >= Date.parse(window.to) - 1000)?.why;
  const first = behind.sort()[0];
  return `no recovery reaches ${plural(behind.length, 'segment')} from ${first} on: ${why ?? 'WAL before it is not stored'}`;
}

function filesOf({ log, base }: Start): WalFile[] {
  const { objects, open: parts } = neededWal(log, [base], false);
  const lost = new Set(log.lost.map(({ key }) => key));
  return [...objects.filter(({ key }) => !lost.has(key)), ...parts.map((one) => ({ ...one, isOpen: true as const }))];
}

/** Reads and hashes files. Returns what is wrong with some of them. */
async function readAll(
  repository: Repository,
  { context, signal }: Part,
  { start, files }: { start: Start; files: readonly WalFile[] },
): Promise<string[]> {
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
    yield* files;
  };
  await inParallel(AT_ONCE, each(), readOne, signal);
  const first = damaged.find(({ error }) => error !== undefined);
  // An unplugged disk has no files at all.
  if (first && !(await new DamageJudge(repository, async () => []).isThere())) throw first.error;
  return damaged.map(({ words }) => words).sort();
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
