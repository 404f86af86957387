import type { Stats } from 'node:fs';
import { PassThrough, type Writable } from 'node:stream';
import type { Archiver } from 'archiver';
import { onAbort } from '../../base/abort.ts';
import type { TreePath } from '../filesystem/path.ts';
import { adjustLibrary } from './library.ts';
import { archiveName, encodeOddNames, type OddNames, PAX_KEYWORD, symlinkText, toBase64 } from './names.ts';
import { BLOCK, danglingHeader, seconds } from './tar.ts';

export type ArchiveFormat = 'zip' | 'tar';

/** Describes an entry to write. */
export interface ArchiveItem {
  /** empty for the root, which only a tar contains */
  path: TreePath;
  type: 'file' | 'directory' | 'symlink' | 'hardlink';
  /** permission bits, with setuid, setgid and sticky */
  mode: number;
  uid: number;
  gid: number;
  /** nanoseconds since 1970 */
  mtime: bigint;
  /** size of a file, bytes */
  size?: number;
  /** the target of a symlink; for a hard link, the path of the first name */
  target?: TreePath;
  /** in a zip: whether to deflate the content */
  deflate?: boolean;
}

/** The output of an archive. Its owner ends it. */
export interface ArchiveOutput {
  output: Writable;
  /** converts an error of the output */
  explain(error: unknown): unknown;
}

/** Size of the small files after which the writer waits until the output has taken them, bytes. */
const ROOM = 1024 * 1024;
const ZLIB_LEVEL = 3;
/** The latest time that a header can hold, milliseconds. A tar also has the exact time in a pax record. */
const MAX_TIME = (2 ** 31 - 1) * 1000;

/**
 * Writes a zip (APPNOTE.TXT, with zip64) or a tar (pax) with archiver. With backpressure: memory holds a few MiB, and
 * for a zip the list of its entries. Calls must not overlap. After a failure, every call rejects with it.
 */
export class ArchiveWriter {
  readonly format: ArchiveFormat;
  /** number of entries with a percent-encoded name or symlink target */
  oddNames = 0;
  private readonly archive: Archiver;
  private readonly output: Writable;
  private readonly explain: ArchiveOutput['explain'];
  private readonly signal: AbortSignal | undefined;
  private readonly pumped: Promise<void>;
  private readonly ignoreAbort: () => void;
  private waiting: { resolve(): void; reject(error: unknown): void } | undefined;
  private failure: { error: unknown } | undefined;
  private moved: (() => void) | undefined;
  private unread = 0;
  /** bytes of the archive written so far */
  written = 0;
  private writing = false;
  /** a part of the current content is written, and bytes of it are missing */
  private within = false;
  /** nothing more can be written */
  private over = false;

  private constructor(format: ArchiveFormat, archive: Archiver, to: ArchiveOutput, signal: AbortSignal | undefined) {
    adjustLibrary(format, archive);
    this.format = format;
    this.archive = archive;
    this.output = to.output;
    this.explain = to.explain;
    this.signal = signal;
    archive.on('entry', () => this.waiting?.resolve());
    archive.on('warning', (error) => this.end(error));
    archive.on('error', (error) => this.end(error));
    this.output.on('error', this.onOutputError);
    this.pumped = this.pump().catch((error: unknown) => this.end(this.explain(error)));
    this.ignoreAbort = onAbort(signal, () => this.end(signal?.reason));
  }

  static async open(format: ArchiveFormat, output: ArchiveOutput, signal?: AbortSignal): Promise<ArchiveWriter> {
    signal?.throwIfAborted();
    // Loaded only for an export: it takes 70 ms.
    const { TarArchive, ZipArchive } = await import('archiver');
    const archive =
      format === 'zip' ? new ZipArchive({ forceZip64: true, zlib: { level: ZLIB_LEVEL } }) : new TarArchive();
    return new ArchiveWriter(format, archive, output, signal);
  }

  /**
   * Adds an entry; for a file, with content of exactly `size` bytes. If the content fails, so does the whole archive.
   */
  async add(item: ArchiveItem, content: Buffer | AsyncIterable<Buffer> = Buffer.alloc(0)): Promise<void> {
    const data = this.describe(item);
    if (Buffer.isBuffer(content)) {
      await this.append(content, data);
      return this.room(content.length);
    }
    // Not the source itself: if it failed, the process would end, or the archive would never end.
    const source = new PassThrough();
    let missing = item.size ?? 0;
    const done = this.append(source, data);
    done.catch(() => undefined);
    try {
      for await (const chunk of content) {
        if (this.failure) break;
        missing -= chunk.length;
        this.within = missing > 0;
        if (!source.write(chunk)) await Promise.race([new Promise((resolve) => source.once('drain', resolve)), done]);
      }
    } catch (error) {
      this.fail(error);
      throw error;
    }
    source.end();
    await done;
  }

  /** Ends the archive. Resolves once the output has taken all of it. */
  async finish(): Promise<void> {
    if (this.failure) throw this.failure.error;
    // Its promise stays pending after some failures, so the pump reports the end.
    void this.archive.finalize().catch((error: unknown) => this.fail(error));
    await this.pumped;
    this.release();
    if (this.failure) throw (this.failure as { error: unknown }).error;
  }

  /**
   * Abandons the archive, and deliberately leaves it invalid. A zip then lacks its directory. A tar that ends between
   * two entries would look complete, so it gets the header of an entry that does not follow.
   */
  async abandon(error: unknown): Promise<void> {
    const usable = !this.over;
    this.fail(error);
    const invalidates = usable && this.format === 'tar' && !this.within;
    if (invalidates) await this.drained();
    this.over = true;
    this.archive.destroy();
    if (!this.signal?.aborted) await this.pumped;
    this.release();
    if (!invalidates || this.output.destroyed || this.output.errored) return;
    const padding = Buffer.alloc((BLOCK - (this.written % BLOCK)) % BLOCK);
    await this.write(Buffer.concat([padding, danglingHeader()])).catch(() => undefined);
  }

  private describe(item: ArchiveItem) {
    const { path, type, mode, uid, gid, mtime, size, target } = item;
    const { name, odd } = archiveName(path);
    const link = target === undefined ? undefined : type === 'symlink' ? symlinkText(target) : archiveName(target);
    const isOddLink = type === 'symlink' && link?.odd === true;
    const names: OddNames = {
      ...(odd ? { path: toBase64(path) } : {}),
      ...(isOddLink && target !== undefined ? { target: toBase64(target) } : {}),
    };
    const isOdd = odd || isOddLink;
    if (isOdd) this.oddNames++;
    const shared = {
      name: path === '' ? './' : name,
      mode: mode & 0o7777,
      date: new Date(Math.min(Math.max(0, Number(mtime / 1_000_000n)), MAX_TIME)),
      ...(link ? { linkname: link.name } : {}),
    };
    const note = isOdd ? encodeOddNames(names) : undefined;
    if (this.format === 'zip') {
      return { ...shared, type, store: !item.deflate, ...(note === undefined ? {} : { comment: note }) };
    }
    const pax = { mtime: seconds(mtime), uid, gid, ...(note === undefined ? {} : { [PAX_KEYWORD]: note }) };
    // Archiver takes the length of a stream from here.
    const stats = { size: size ?? 0 } as Stats;
    // tar-stream treats the number 0 as missing, and sets mode 644.
    const bits = { mode: shared.mode === 0 ? ('0' as unknown as number) : shared.mode };
    return { ...shared, ...bits, type: type === 'hardlink' ? 'link' : type, stats, uid, gid, pax };
  }

  private append(source: Buffer | PassThrough, data: { name: string }): Promise<void> {
    if (this.failure) return Promise.reject(this.failure.error);
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.archive.append(source, data);
    });
  }

  /** Waits for the output. A zip accepts any number of stored contents at once, however slow the output is. */
  private async room(size: number): Promise<void> {
    this.unread += size + BLOCK;
    if (this.unread < ROOM) return;
    this.unread = 0;
    while (this.archive.readableLength > 0 && !this.failure) {
      await new Promise<void>((resolve) => {
        this.moved = resolve;
      });
    }
    if (this.failure) throw this.failure.error;
  }

  private async pump(): Promise<void> {
    for await (const chunk of this.archive) {
      await this.write(chunk as Buffer);
      this.moved?.();
      if (this.over) return;
    }
  }

  /** Resolves when the output has taken everything that was added. */
  private async drained(): Promise<void> {
    for (let quiet = 0; quiet < 10 && !this.over; quiet++) {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.archive.readableLength > 0 || this.writing) quiet = 0;
    }
  }

  private async write(chunk: Buffer): Promise<void> {
    this.written += chunk.length;
    this.writing = true;
    try {
      await new Promise<void>((resolve, reject) => {
        this.output.write(chunk, (error) => (error ? reject(error) : resolve()));
      });
    } catch (error) {
      this.end(this.explain(error));
      throw error;
    } finally {
      this.writing = false;
    }
  }

  private fail(error: unknown): void {
    this.failure ??= { error };
    this.waiting?.reject(this.failure.error);
    this.moved?.();
  }

  /** Ends the archive with an error: nothing more can be written. */
  private end(error: unknown): void {
    this.over = true;
    this.fail(error);
    this.archive.destroy();
  }

  private readonly onOutputError = (error: unknown) => this.end(this.explain(error));

  private release(): void {
    this.ignoreAbort();
    this.output.off('error', this.onOutputError);
    // A pipe without a reader may still report an error.
    this.output.on('error', () => undefined);
  }
}
