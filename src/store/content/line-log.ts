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
    this.pendingBytes = 0;
    for (let done = 0; done < data.length; ) {
      done += (await this.handle.write(data, done, data.length - done, this.flushed + done)).bytesWritten;
    }
    this.flushed += data.length;
  }

  async lineAt(offset: number): Promise<Buffer | undefined> {
    if (offset >= this.flushed) await this.flush();
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
