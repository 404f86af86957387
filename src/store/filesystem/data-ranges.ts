import { spawn } from 'node:child_process';

/**
 * The parts of a file that hold data, as pairs of offset and length in bytes, in order. The rest is holes, which read
 * as zeros.
 */
export type DataRanges = readonly number[];

/** More ranges would make the index line of a file too long: the smallest holes are then read like data. */
const MAX_RANGES = 1000;
/** Upper bound for the size of the map, bytes. Beyond it, skipping holes gains nothing. */
const MAX_MAP = 16 * 1024 * 1024;
const BLOCK = 512;
const LIMIT_MS = 60_000;

/** Size and data ranges of a file, as in its index line. */
interface Sized {
  size?: number;
  ranges?: DataRanges;
}

/** Returns the size of content as stored in a pack, bytes. */
export function storedSize({ size = 0, ranges }: Sized): number {
  return ranges ? lengthOf(ranges) : size;
}

/** Returns the total length of the ranges, bytes. */
export function lengthOf(ranges: DataRanges): number {
  let sum = 0;
  for (let i = 1; i < ranges.length; i += 2) sum += ranges[i]!;
  return sum;
}

/** Yields the ranges one by one. */
export function* pairs(ranges: DataRanges): Generator<{ offset: number; length: number }> {
  for (let i = 0; i < ranges.length; i += 2) yield { offset: ranges[i]!, length: ranges[i + 1]! };
}

/** The zeros that fill a hole, one piece at a time. */
const FILLING = Buffer.alloc(64 * 1024);

/** Yields the whole content of a file of `size` bytes from its data. Zeros fill the gaps between the ranges. */
export async function* filled(data: AsyncIterable<Buffer>, ranges: DataRanges, size: number): AsyncGenerator<Buffer> {
  let at = 0;
  function* zeros(end: number): Generator<Buffer> {
    while (at < end) {
      const part = FILLING.subarray(0, end - at);
      at += part.length;
      yield part;
    }
  }
  const places = pairs(ranges);
  let place = places.next().value ?? undefined;
  for await (const chunk of data) {
    for (let taken = 0; taken < chunk.length; ) {
      if (!place) throw new RangeError('more content than its ranges hold');
      yield* zeros(place.offset);
      const part = chunk.subarray(taken, taken + place.offset + place.length - at);
      taken += part.length;
      at += part.length;
      yield part;
      if (at === place.offset + place.length) place = places.next().value ?? undefined;
    }
  }
  yield* zeros(size);
}

/** Returns the text that is hashed after the data, one line for each range, so that the hash covers the holes too. */
export function rangesText(ranges: DataRanges): string {
  let text = '';
  for (const { offset, length } of pairs(ranges)) text += `${offset} ${length}\n`;
  return text;
}

/** Yields the parts of `ranges` that overlap none of `others`. */
export function* outside(ranges: DataRanges, others: DataRanges): Generator<{ offset: number; length: number }> {
  const taken = [...pairs(others)];
  for (const { offset, length } of pairs(ranges)) {
    let at = offset;
    const end = offset + length;
    for (const other of taken) {
      if (other.offset + other.length <= at) continue;
      if (other.offset >= end) break;
      if (other.offset > at) yield { offset: at, length: other.offset - at };
      at = other.offset + other.length;
    }
    if (at < end) yield { offset: at, length: end - at };
  }
}

/**
 * Returns whether a value is a list of ranges as this module makes them: in order, separate, not empty, within `size`.
 */
export function areRanges(value: unknown, size: number): value is number[] {
  if (!Array.isArray(value) || value.length % 2 !== 0 || value.length > 2 * MAX_RANGES) return false;
  if (!value.every((number) => Number.isSafeInteger(number) && number >= 0)) return false;
  let end = -1;
  for (const { offset, length } of pairs(value as number[])) {
    if (offset <= end || length === 0 || offset + length > size) return false;
    end = offset + length;
  }
  return true;
}

/**
 * Finds the data of an open file with SEEK_DATA and SEEK_HOLE of lseek(2). Node has no lseek, so this runs GNU tar,
 * which writes the map first (format 1.0 of https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html)
 * and is ended before it reads any data. Returns undefined if there are no holes, or tar fails.
 */
export async function findData(fd: number, size: number): Promise<DataRanges | undefined> {
  const options = ['--format=pax', '--sparse', '--sparse-version=1.0', '--hole-detection=seek', '--dereference'];
  // By descriptor, so tar reads this file even if another one has its name now.
  const child = spawn('tar', [...options, '-P', '-cf', '-', '/proc/self/fd/0'], {
    stdio: [fd, 'pipe', 'ignore'],
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
  });
  const { stdout } = child;
  if (!stdout) return undefined;
  child.on('error', () => stdout.destroy());
  const chunks: Buffer[] = [];
  let length = 0;
  // The map is parsed each time the output has doubled.
  let enough = 2 * BLOCK;
  try {
    for await (const chunk of stdout) {
      chunks.push(chunk as Buffer);
      length += (chunk as Buffer).length;
      if (length < enough) continue;
      enough = 2 * length;
      if (length > MAX_MAP || readMap(Buffer.concat(chunks), size) !== 'more') break;
    }
    const found = readMap(Buffer.concat(chunks), size);
    return Array.isArray(found) && lengthOf(found) < size ? fewer(found) : undefined;
  } catch {
    // The file is read whole then.
  } finally {
    child.kill('SIGKILL');
  }
  return undefined;
}

/** Reads the map at the start of an archive of one file. */
function readMap(archive: Buffer, size: number): number[] | 'more' | 'none' {
  if (archive.length < 2 * BLOCK) return 'more';
  if (archive.toString('latin1', 156, 157) !== 'x') return 'none';
  const headers = Number.parseInt(archive.toString('latin1', 124, 135), 8);
  const start = BLOCK + Math.ceil(headers / BLOCK) * BLOCK + BLOCK;
  if (archive.length < start) return 'more';
  const attributes = archive.toString('latin1', BLOCK, BLOCK + headers);
  if (!attributes.includes(' GNU.sparse.major=1\n') || !attributes.includes(` GNU.sparse.realsize=${size}\n`)) {
    return 'none';
  }
  const lines = archive.toString('latin1', start).split('\n');
  const count = Number(lines[0]);
  // The last line may be incomplete.
  if (lines.length < 2 + 2 * count) return 'more';
  const numbers = lines.slice(1, 1 + 2 * count).map(Number);
  const ranges = [...pairs(numbers)]
    .filter(({ length }) => length > 0)
    .flatMap(({ offset, length }) => [offset, length]);
  const merged = join(ranges);
  return merged.every(Number.isSafeInteger) ? merged : 'none';
}

/** Merges adjacent ranges. */
function join(ranges: DataRanges): number[] {
  const merged: number[] = [];
  for (const { offset, length } of pairs(ranges)) {
    const last = merged.length - 2;
    const end = last < 0 ? Number.NEGATIVE_INFINITY : merged[last]! + merged[last + 1]!;
    if (offset <= end) merged[last + 1] = offset + length - merged[last]!;
    else merged.push(offset, length);
  }
  return merged;
}

/** Closes the smallest gaps until there are at most {@link MAX_RANGES} ranges. */
function fewer(ranges: number[]): number[] {
  const gaps: { before: number; size: number }[] = [];
  for (let i = 2; i < ranges.length; i += 2) {
    gaps.push({ before: i, size: ranges[i]! - ranges[i - 2]! - ranges[i - 1]! });
  }
  const kept = new Set(
    gaps
      .sort((a, b) => b.size - a.size || a.before - b.before)
      .slice(0, MAX_RANGES - 1)
      .map((gap) => gap.before),
  );
  const found: number[] = [];
  for (let i = 0; i < ranges.length; i += 2) {
    const offset = ranges[i]!;
    if (i === 0 || kept.has(i)) found.push(offset, ranges[i + 1]!);
    else found[found.length - 1] = offset + ranges[i + 1]! - found[found.length - 2]!;
  }
  return found;
}
