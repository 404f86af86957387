import { close, fstat, open } from 'node:fs';
import { promisify } from 'node:util';
import { readRangeOf } from '../../base/read-range.ts';
import { type DataRanges, findData } from './data-ranges.ts';
import { type FileStat, fileStat } from './file-stat.ts';
import { isAt, READ_FLAGS } from './read-file.ts';

const openAsync = promisify(open);
const fstatAsync = promisify(fstat);
const closeAsync = promisify(close);

/** A large file that is read from its start, possibly twice. */
export class LargeFile {
  private readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  static async open(path: Buffer): Promise<LargeFile> {
    return new LargeFile(await openAsync(path, READ_FLAGS));
  }

  /** See {@link isAt}. */
  isAt(path: Buffer): boolean {
    return isAt(this.fd, path);
  }

  async stat(): Promise<FileStat> {
    const askedAt = Date.now();
    return fileStat(await fstatAsync(this.fd, { bigint: true }), askedAt);
  }

  /** Returns the ranges that hold data; see {@link findData}. */
  async dataRanges({ size, sparse }: FileStat): Promise<DataRanges | undefined> {
    return sparse ? findData(this.fd, size) : undefined;
  }

  /** Yields `length` bytes from `start`; see {@link readRangeOf}. */
  chunks(start: number, length: number, signal?: AbortSignal): AsyncGenerator<Buffer> {
    return readRangeOf(this.fd, start, length, signal);
  }

  async close(): Promise<void> {
    await closeAsync(this.fd).catch(() => {});
  }
}
