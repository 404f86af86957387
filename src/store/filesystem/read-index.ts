import { createReadStream } from 'node:fs';
import { LifeboatError } from '../../base/errors.ts';
import { decodeIndexEntry, type IndexEntry, MAX_LINE } from './index-file.ts';
import { damagedIndex as damaged, decodePart, type IndexPart, PartOrder } from './index-part.ts';
import { comparePaths, parentOf, shortPath, type TreePath } from './path.ts';

/** One line of an index. */
export type IndexLine = IndexEntry | IndexPart;

/** Receives the position of a reader: the offset after the last line that it has yielded, bytes. */
interface LinePosition {
  end: number;
}

/**
 * Reads an index and checks it as a whole: it starts with the root, lines are in order, every parent is a directory of
 * the index, no name occurs twice, the parts of a file follow it and cover it, and it ends with a line feed.
 *
 * @throws OBJECT_DAMAGED at the first violation
 */
export async function* readIndexLines(
  stream: AsyncIterable<Buffer>,
  position: LinePosition = { end: 0 },
): AsyncGenerator<IndexLine> {
  const order = new LineOrder();
  /** the file whose parts follow */
  let inParts: { path: TreePath; parts: PartOrder } | undefined;
  let number = 0;
  for await (const line of readLines(stream)) {
    number++;
    position.end += line.length + 1;
    if (inParts) {
      const { path, parts } = inParts;
      const part = numbered(number, () => decodePart(line));
      numbered(number, () => parts.add(part));
      if (parts.isComplete) inParts = undefined;
      yield { type: 'part', path, ...part };
    } else {
      const entry = numbered(number, () => decodeIndexEntry(line));
      order.check(entry, number);
      if (entry.parts !== undefined) inParts = { path: entry.path, parts: new PartOrder(entry) };
      yield entry;
    }
  }
  if (number === 0) throw damaged('it is empty');
  if (inParts) throw damaged(`it ends before the parts of ${shortPath(inParts.path)}`);
}

/** Checks the order of the entries of an index, and that each has its parent. */
class LineOrder {
  /** the open directories above the current entry */
  private readonly open: TreePath[] = [];
  private last: TreePath | undefined;

  check({ path, type }: IndexEntry, number: number): void {
    const { open, last } = this;
    if (last === undefined) {
      if (path !== '' || type !== 'directory') throw damaged('it does not start with the root');
    } else {
      if (comparePaths(last, path) >= 0) throw damaged(`line ${number} is out of order`);
      const parent = parentOf(path);
      while (open.length > 0 && open.at(-1) !== parent) open.pop();
      if (open.length === 0) throw damaged(`the parent of ${shortPath(path)} is not a directory of it`);
    }
    if (type === 'directory') open.push(path);
    this.last = path;
  }
}

/** Adds the number of the line to an error about it. */
function numbered<T>(number: number, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw cause instanceof LifeboatError ? damaged(`line ${number}: ${cause.message.replace(/^.*?: /, '')}`) : cause;
  }
}

/** Like {@link readIndexLines}, without the lines of parts. These are checked, too. */
export async function* readIndex(stream: AsyncIterable<Buffer>): AsyncGenerator<IndexEntry> {
  for await (const line of readIndexLines(stream)) if (line.type !== 'part') yield line;
}

/** Reads a plain index file, which is opened when the first entry is requested. Throws like {@link readIndex}. */
export function readIndexFile(path: string): AsyncGenerator<IndexEntry> {
  return readIndex(chunksOf(path));
}

/** Reads a plain index file with the lines of parts. See {@link readIndexLines}. */
export function readIndexFileLines(path: string, position?: LinePosition): AsyncGenerator<IndexLine> {
  return readIndexLines(chunksOf(path), position);
}

async function* chunksOf(path: string): AsyncGenerator<Buffer> {
  yield* createReadStream(path, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>;
}

/** Splits a stream at line feeds. A last line without one is an error, because the stream was cut. */
export async function* readLines(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer | undefined;
  for await (const chunk of stream) {
    const data: Buffer = rest ? Buffer.concat([rest, chunk]) : chunk;
    let start = 0;
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10, start)) {
      yield data.subarray(start, end);
      start = end + 1;
    }
    rest = start < data.length ? data.subarray(start) : undefined;
    if (rest && rest.length > MAX_LINE) throw damaged('a line is too long');
  }
  if (rest) throw damaged('its last line is cut');
}

// Inside a JSON string the quotes would be escaped, so these bytes can only be a key.
export const PACK_KEY = Buffer.from('"pack":"');

/** Returns the `length` bytes of text after a key in an index line, without parsing the line. */
export function valueAfter(line: Buffer, key: Buffer, length: number): string | undefined {
  const at = line.indexOf(key);
  return at < 0 ? undefined : line.toString('latin1', at + key.length, at + key.length + length);
}
