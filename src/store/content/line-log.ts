import { createReadStream } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { MAX_LINE } from '../filesystem/index-file.ts';
import { readLines } from '../filesystem/read-index.ts';

const FLUSH_SIZE = 256 * 1024;
/** Most lines are shorter, bytes. */
const FIRST_READ = 1024;

/** Access to single lines of a file. */
export interface Lines {
  /** Returns the line that starts at `offset`, without its line feed; undefined if there is none. */
  lineAt(offset: number): Promise<Buffer | undefined>;
}

/** Some consecutive lines of a file on disk. */
export interface LineRange {
  file: string;
  /** offset of the first line, bytes */
  from: number;
  /** offset after the last line, bytes */
  to: number;
}

/** Yields the lines of a range without their line feeds. */
export async function* readRange({ file, from, to }: LineRange): AsyncGenerator<Buffer> {
  if (from < to) yield* readLines(createReadStream(file, { start: from, end: to - 1 }));
}

/** A file of lines (mode 600), which can be read while more lines are added. */
export class LineLog implements Lines {
  readonly path: string;
  private readonly handle: FileHandle;
  private pending: string[] = [];
  /** offsets of the pending lines, bytes */
  private starts: number[] = [];
  private pendingBytes = 0;
  private flushed = 0;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.handle = handle;
  }

  /** Creates the file, and replaces that of an earlier run. */
  static async create(path: string): Promise<LineLog> {
    await unlink(path).catch(() => {});
    return new LineLog(path, await open(path, 'wx+', 0o600));
  }

  /** Adds a line, which ends in a line feed, and returns its offset. Call {@link flush} when {@link full}. */
  add(line: string, bytes = Buffer.byteLength(line)): number {
    const offset = this.end;
    this.pending.push(line);
    this.starts.push(offset);
    this.pendingBytes += bytes;
    return offset;
  }

  /** The offset after the last line, bytes. */
  get end(): number {
    return this.flushed + this.pendingBytes;
  }

  /** True if enough lines are pending for a write. */
  get full(): boolean {
    return this.pendingBytes >= FLUSH_SIZE;
  }

  async flush(): Promise<void> {
    const data = Buffer.from(this.pending.join(''));
    this.pending = [];
    this.starts = [];
    this.pendingBytes = 0;
    for (let done = 0; done < data.length; ) {
      done += (await this.handle.write(data, done, data.length - done, this.flushed + done)).bytesWritten;
    }
    this.flushed += data.length;
  }

  async lineAt(offset: number): Promise<Buffer | undefined> {
    // From memory: lines that refer to their neighbours would make each of them a write of its own.
    if (offset >= this.flushed) {
      const line = this.pending[indexOf(this.starts, offset)];
      return line === undefined ? undefined : Buffer.from(line.slice(0, -1));
    }
    return readLineAt(this.handle, offset);
  }

  /** Writes the remaining lines to the disk, and closes the file. */
  async finish(): Promise<void> {
    await this.flush();
    await this.handle.sync();
    await this.handle.close();
  }

  /** Closes and removes the file. */
  async remove(): Promise<void> {
    await this.handle.close().catch(() => {});
    await unlink(this.path).catch(() => {});
  }
}

/** Returns the place of a number in ascending numbers; -1 if it is not there. */
function indexOf(numbers: readonly number[], wanted: number): number {
  let [from, to] = [0, numbers.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((numbers[middle] as number) < wanted) from = middle + 1;
    else to = middle;
  }
  return numbers[from] === wanted ? from : -1;
}

/** Yields the lines of a file without their line feeds, from the last to the first. */
export async function* linesBackwards(path: string): AsyncGenerator<string> {
  const handle = await open(path, 'r');
  try {
    let rest = Buffer.alloc(0);
    for (let end = (await handle.stat()).size; end > 0; ) {
      const length = Math.min(end, FLUSH_SIZE);
      const chunk = Buffer.alloc(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await handle.read(chunk, done, length - done, end - length + done);
        if (bytesRead === 0) throw new Error(`${path} was cut`);
        done += bytesRead;
      }
      end -= length;
      const data = Buffer.concat([chunk, rest]);
      // The beginning of the first line is in an earlier chunk, unless the file begins here.
      const first = end === 0 ? 0 : data.indexOf(10) + 1;
      if (first === 0 && end > 0) {
        rest = data;
        continue;
      }
      rest = data.subarray(0, first);
      yield* data.toString('utf8', first).split('\n').slice(0, -1).reverse();
    }
  } finally {
    await handle.close();
  }
}

/** Reads single lines of a file that does not change. */
export class LineFile implements Lines {
  private readonly handle: FileHandle;

  private constructor(handle: FileHandle) {
    this.handle = handle;
  }

  static async open(path: string): Promise<LineFile> {
    return new LineFile(await open(path, 'r'));
  }

  lineAt(offset: number): Promise<Buffer | undefined> {
    return readLineAt(this.handle, offset);
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}

async function readLineAt(handle: FileHandle, offset: number): Promise<Buffer | undefined> {
  for (let length = FIRST_READ; ; length = Math.min(length * 8, MAX_LINE + 1)) {
    const buffer = Buffer.allocUnsafe(length);
    const { bytesRead } = await handle.read(buffer, 0, length, offset);
    const end = buffer.subarray(0, bytesRead).indexOf(10);
    if (end >= 0) return buffer.subarray(0, end);
    if (bytesRead < length || length > MAX_LINE) return undefined;
  }
}
