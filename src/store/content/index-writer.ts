import { type FileHandle, open, rename, unlink } from 'node:fs/promises';
import { errorInfo, LifeboatError } from '../../base/errors.ts';
import { decodeIndexEntry, encodeIndexEntry, type IndexEntry, MAX_LINE } from '../filesystem/index-file.ts';
import type { IndexLines } from './known.ts';

const FLUSH_SIZE = 256 * 1024;

/** The error for an entry whose line no restore could read. */
export class RefusedLine extends LifeboatError {}

/** Writes an index to a local file (mode 600), which gets its name only once it is complete. */
export class IndexWriter implements IndexLines {
  private readonly path: string;
  private readonly partial: string;
  private readonly handle: FileHandle;
  private pending: string[] = [];
  private pendingBytes = 0;
  private flushed = 0;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.partial = partialOf(path);
    this.handle = handle;
  }

  /** Creates the file, and replaces the partial file of an earlier run. */
  static async create(path: string): Promise<IndexWriter> {
    await unlink(partialOf(path)).catch(() => {});
    return new IndexWriter(path, await open(partialOf(path), 'wx+', 0o600));
  }

  /**
   * Adds a line and returns its offset. Call {@link flush} when {@link full}.
   *
   * @throws RefusedLine if the line cannot be read back: one such line would make the whole index unreadable
   */
  add(entry: IndexEntry): number {
    const line = encodeIndexEntry(entry);
    const bytes = Buffer.byteLength(line);
    checkLine(line, bytes);
    const offset = this.flushed + this.pendingBytes;
    this.pending.push(line);
    this.pendingBytes += bytes;
    return offset;
  }

  /** Whether enough lines are pending for a write. */
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
    const buffer = Buffer.allocUnsafe(64 * 1024);
    const { bytesRead } = await this.handle.read(buffer, 0, buffer.length, offset);
    const end = buffer.subarray(0, bytesRead).indexOf(10);
    return end < 0 ? undefined : buffer.subarray(0, end);
  }

  /** Writes the remaining lines, and gives the file its name. */
  async finish(): Promise<void> {
    await this.flush();
    await this.handle.sync();
    await this.handle.close();
    await rename(this.partial, this.path);
  }

  /** Removes the partial file. */
  async abort(): Promise<void> {
    await this.handle.close().catch(() => {});
    await unlink(this.partial).catch(() => {});
  }
}

function checkLine(line: string, bytes: number): void {
  try {
    decodeIndexEntry(line.slice(0, -1));
  } catch (cause) {
    throw new RefusedLine('INTERNAL', `its line in the index cannot be read back: ${errorInfo(cause).message}`, {
      cause,
    });
  }
  if (bytes > MAX_LINE) throw new RefusedLine('INTERNAL', 'its line in the index is too long');
}

function partialOf(path: string): string {
  return `${path}.partial`;
}
