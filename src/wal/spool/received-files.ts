import { constants, type Stats } from 'node:fs';
import { lstat, open, readdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { hasErrno, LifeboatError } from '../../base/errors.ts';
import { removePath } from '../../store/filesystem/remove-tree.ts';
import { parseSegmentName } from '../../store/wal/names.ts';
import { parseHistoryName } from '../../store/wal/timelines.ts';

/** The files that `pg_receivewal` has written. A helper wrote them, so they are not trusted: no link is followed. */
export interface ReceivedFiles {
  /** names of complete segments, in order */
  complete: string[];
  /** the segment that is being received, without `.partial` */
  partial?: string;
  /** earlier segments that never became complete, without `.partial` */
  left: string[];
  histories: string[];
}

const PARTIAL = '.partial';

/** Lists the files of a directory of `pg_receivewal`. */
export async function listReceived(directory: string, segmentSize: number): Promise<ReceivedFiles> {
  const names = await readdir(directory);
  const order = (a: string, b: string) => byNumber(a, segmentSize) - byNumber(b, segmentSize) || (a < b ? -1 : 1);
  const isSegment = (name: string) => parseSegmentName(name, segmentSize) !== undefined;
  const partials = names.filter((name) => name.endsWith(PARTIAL)).map((name) => name.slice(0, -PARTIAL.length));
  const [partial, ...left] = partials.filter(isSegment).sort(order).reverse();
  return {
    complete: names.filter(isSegment).sort(order),
    left,
    histories: names.filter((name) => parseHistoryName(name) !== undefined).sort(),
    ...(partial === undefined ? {} : { partial }),
  };
}

/** Returns the names of the files with received segments, complete or not. */
export async function listSegments(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  return entries.filter((one) => one.isFile() && /^[0-9A-F]{24}(?:\.partial)?$/.test(one.name)).map(({ name }) => name);
}

function byNumber(name: string, segmentSize: number): number {
  return parseSegmentName(name, segmentSize)?.number ?? 0;
}

/** The largest history file that is read, bytes. */
const MAX_HISTORY = 1024 * 1024;

/**
 * Opens a received file.
 *
 * @param range absent: the whole file
 * @throws WAL_GAP if it is not a plain file of the expected size; ENOENT
 */
export async function readReceived(
  directory: string,
  name: string,
  { size, range }: { size?: number; range?: { from: number; to: number } },
): Promise<Readable> {
  const handle = await open(
    path.join(directory, name),
    constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
  );
  const stat = await handle.stat();
  if (!stat.isFile() || (size === undefined ? stat.size > MAX_HISTORY : stat.size !== size)) {
    await handle.close();
    throw new LifeboatError('WAL_GAP', `the received file ${name} has ${stat.size} B, which no segment has`);
  }
  if (stat.size === 0) {
    await handle.close();
    return Readable.from([]);
  }
  const { from = 0, to = stat.size } = range ?? {};
  return handle.createReadStream({ start: from, end: to - 1, highWaterMark: 256 * 1024 });
}

/**
 * Opens the segment that is being received, up to `to`. It may be complete by now. Returns undefined while the program
 * still fills a new file with zeros, before it writes to it (receivelog.c).
 */
export async function readPartial(
  directory: string,
  name: string,
  options: { size: number; range: { from: number; to: number } },
): Promise<Readable | undefined> {
  try {
    if (isUnfilled(await lstat(path.join(directory, `${name}${PARTIAL}`)), options.size)) return undefined;
    return await readReceived(directory, `${name}${PARTIAL}`, options);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    return readReceived(directory, name, options);
  }
}

/** Returns whether a file is shorter than a segment: the program is filling it with zeros, or died meanwhile. */
function isUnfilled(stat: Stats, size: number): boolean {
  return stat.isFile() && stat.size < size;
}

/**
 * Removes what `pg_receivewal` must not find when it starts:
 *
 * - incomplete segments that it had not filled with zeros when it died. They hold no WAL, and it refuses to continue
 *   with such a file (receivelog.c, open_walfile)
 * - history files. It fetches none that is there, so another server on a timeline of the same number would seem to have
 *   the same history. It fetches the one that it needs before it receives anything
 */
export async function removeUnusable(directory: string, segmentSize: number): Promise<void> {
  const { left, partial, histories } = await listReceived(directory, segmentSize);
  for (const name of partial === undefined ? left : [...left, partial]) {
    const file = path.join(directory, `${name}${PARTIAL}`);
    if (isUnfilled(await lstat(file), segmentSize)) await unlink(file);
  }
  for (const name of histories) await unlink(path.join(directory, name));
}

/**
 * Returns where the data of the segment that is being received ends, bytes: after its last byte that is not zero. The
 * rest of the file is zeros from the start on (receivelog.c), and WAL ends where a record would be zeros. Returns 0 for
 * a file that the program has not filled with zeros.
 *
 * @throws WAL_GAP if it is not a plain file
 */
export async function endOfData(directory: string, name: string, size: number): Promise<number> {
  const content = await readPartial(directory, name, { size, range: { from: 0, to: size } });
  let at = 0;
  let end = 0;
  for await (const chunk of content ?? []) {
    const bytes = chunk as Buffer;
    for (let i = bytes.length - 1; i >= 0; i--) {
      if (bytes[i] === 0) continue;
      end = at + i + 1;
      break;
    }
    at += bytes.length;
  }
  return end;
}

/** Lists the files with segments of other timelines than the server's. */
async function otherTimelines(directory: string, timeline: number, segmentSize: number): Promise<string[]> {
  const { complete, left, partial } = await listReceived(directory, segmentSize);
  const isOther = (name: string) => parseSegmentName(name, segmentSize)?.timeline !== timeline;
  const partials = [...left, ...(partial === undefined ? [] : [partial])];
  return [...complete.filter(isOther), ...partials.filter(isOther).map((name) => `${name}${PARTIAL}`)];
}

/** Returns whether segments of another timeline than the server's are there. */
export async function holdsOtherTimeline(directory: string, timeline: number, segmentSize: number): Promise<boolean> {
  return (await otherTimelines(directory, timeline, segmentSize)).length > 0;
}

/** Returns the names of all segments, complete or not, without `.partial`. */
export async function namesOf(directory: string, segmentSize: number): Promise<string[]> {
  const { complete, left, partial } = await listReceived(directory, segmentSize);
  return [...complete, ...left, ...(partial === undefined ? [] : [partial])];
}

/** Returns whether segments of a timeline are there. */
export async function hasTimeline(directory: string, timeline: number, segmentSize: number): Promise<boolean> {
  const names = await namesOf(directory, segmentSize);
  return names.some((name) => parseSegmentName(name, segmentSize)?.timeline === timeline);
}

/** Removes the segments of other timelines than the server's. The caller has stored them. */
export async function removeOtherTimelines(directory: string, timeline: number, segmentSize: number): Promise<void> {
  for (const name of await otherTimelines(directory, timeline, segmentSize)) await unlink(path.join(directory, name));
}

/**
 * Removes segments that are stored. Keeps the last file, from which `pg_receivewal` finds its place again: the segment
 * that is being received, or the last complete one. Also removes incomplete segments that a later one follows.
 */
export async function removeReceived(
  directory: string,
  { complete, partial, left }: ReceivedFiles,
  isStored: (name: string) => boolean,
): Promise<void> {
  const stored = complete.filter(isStored);
  const last = partial === undefined ? complete.at(-1) : undefined;
  const done = stored.filter((name) => name !== last);
  for (const name of [...done, ...left.map((one) => `${one}${PARTIAL}`)]) await unlink(path.join(directory, name));
}

/** Removes everything from a directory of `pg_receivewal`. */
export async function empty(directory: string): Promise<void> {
  for (const name of await readdir(directory)) await removePath(directory, name);
}
