import { PassThrough, Transform } from 'node:stream';
import { constants as zlib, zstdCompressSync } from 'node:zlib';
import { ZipArchive } from 'archiver';
import type { Destination } from '../destinations/destination.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import { keyId } from './encryption.ts';
import { seal } from './seal.ts';

/** A pack as a manifest names it. */
export interface PackRef {
  /** 32 hex digits */
  id: string;
  key: string;
  /** bytes, as stored */
  size: number;
  /** hex SHA-256, as stored */
  sha256: string;
  /** bytes of the zip itself, before compression and encryption */
  plainSize: number;
  /** names the keys that it was encrypted with; see `keyId`. Absent: it is in the clear */
  keyId?: string | undefined;
}

/** What a pack needs to know of its surroundings. */
export interface PackStreamOptions {
  id: string;
  /** the object's name without the suffixes that sealing adds */
  key: string;
  destination: Destination;
  keys: SealKeys;
  /** called, and waited for, before the first byte goes to the destination */
  recordObject(key: string): Promise<void>;
  signal?: AbortSignal | undefined;
  /** about how large the pack will be, in bytes, where that is known */
  expectedSize?: number | undefined;
}

/** The fixed part of what a zip has before each content, beside the name. */
const LOCAL_HEADER_SIZE = 30;

/** How many bytes may wait between archiver and the destination, */
const MAX_WAITING = 4 * 1024 * 1024;
/** and after that many entries only so many: small entries cost far more memory than their bytes. */
const CHECK_ENTRIES = 64;
const MAX_WAITING_AT_CHECK = 64 * 1024;

/** A zip of small files comes in pieces of a few bytes; they are joined up to this size. */
const PIECE_SIZE = 128 * 1024;
/** Pieces from this size on are not worth copying. */
const LARGE_PIECE = 32 * 1024;

/** How much less the compressed sample must be for compression to be worth its time. */
const WORTHWHILE = 0.93;

interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

/**
 * One zip on its way to the destination. Calls must not overlap: each append is awaited before the next. After any
 * failure every call rejects with it, and nothing is stored.
 */
export class PackStream {
  readonly id: string;
  private readonly options: PackStreamOptions;
  private readonly archive = new ZipArchive({ store: true, forceZip64: true });
  private readonly plain: Transform;
  private readonly stored: Promise<PackRef>;
  private appended = 0;
  private passed = 0;
  private entries = 0;
  /** how many bytes the present wait lets be under way */
  private allowed = MAX_WAITING;
  private failure: Error | undefined;
  /** the one call that waits, for an entry to be taken or for room */
  private entryWaiter: Waiter | undefined;
  private roomWaiter: Waiter | undefined;

  /** @param sample the beginning of the pack's content: decides whether it is compressed */
  constructor(options: PackStreamOptions, sample: Buffer) {
    this.options = options;
    this.id = options.id;
    this.plain = gathering((length) => {
      this.passed += length;
      if (this.passed >= this.appended - this.allowed) this.settleRoom();
    });
    this.plain.on('error', (error) => this.fail(error));
    this.archive.on('error', (error) => this.fail(error));
    this.archive.on('warning', (error) => this.fail(error));
    this.archive.on('entry', () => this.settleEntry());
    this.archive.pipe(this.plain);
    this.stored = this.store(compresses(sample));
    this.stored.catch((error) => this.fail(error));
  }

  private async store(compress: boolean): Promise<PackRef> {
    const { destination, keys, recordObject, signal, id, expectedSize } = this.options;
    const sealed = seal(this.plain, { compress, keys });
    const key = this.options.key + sealed.suffix;
    try {
      await recordObject(key);
      const stored = await destination.put(key, sealed.stream, {
        ...(signal ? { signal } : {}),
        ...(expectedSize === undefined ? {} : { expectedSize }),
      });
      if (this.failure) throw this.failure;
      const encrypted = keyId(keys);
      const ref = { id, key, size: stored.size, sha256: stored.sha256, plainSize: this.passed };
      return encrypted === undefined ? ref : { ...ref, keyId: encrypted };
    } catch (error) {
      sealed.stream.destroy();
      throw error;
    }
  }

  /** Adds a content that is in memory. */
  async append(entry: string, content: Buffer, mtime: bigint): Promise<void> {
    this.throwIfFailed();
    this.appended += LOCAL_HEADER_SIZE + Buffer.byteLength(entry) + content.length;
    const taken = this.waitForEntry();
    this.archive.append(content, { name: entry, date: dateOf(mtime) });
    await taken;
    await this.waitForRoom(++this.entries % CHECK_ENTRIES === 0 ? MAX_WAITING_AT_CHECK : MAX_WAITING);
  }

  /** Adds one content that comes in chunks. */
  async appendChunks(entry: string, chunks: AsyncIterable<Buffer>, mtime: bigint): Promise<void> {
    this.throwIfFailed();
    // Never given an error: archiver would let it become an uncaught exception. Failing goes by way of fail().
    const source = new PassThrough({ highWaterMark: 2 * 1024 * 1024 });
    const taken = this.waitForEntry();
    taken.catch(() => {});
    this.archive.append(source, { name: entry, date: dateOf(mtime) });
    try {
      for await (const chunk of chunks) {
        this.throwIfFailed();
        this.appended += chunk.length;
        source.write(chunk);
        await this.waitForRoom(MAX_WAITING);
      }
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
    source.end();
    await taken;
  }

  /** Ends the zip and waits until it is stored whole. */
  async finish(): Promise<PackRef> {
    this.throwIfFailed();
    // Its promise never settles after a failure; the object's does.
    this.archive.finalize().catch((error) => this.fail(error));
    return this.stored;
  }

  /** Gives up: resolves when the destination has nothing of it any more. */
  async abandon(reason: Error): Promise<void> {
    this.fail(reason);
    await this.stored.catch(() => {});
  }

  private fail(error: Error): void {
    if (this.failure) return;
    this.failure = error;
    this.archive.abort();
    this.plain.destroy(error);
    this.entryWaiter?.reject(error);
    this.roomWaiter?.reject(error);
  }

  private throwIfFailed(): void {
    if (this.failure) throw this.failure;
  }

  private waitForEntry(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.entryWaiter = { resolve, reject };
    });
  }

  private settleEntry(): void {
    this.entryWaiter?.resolve();
    this.entryWaiter = undefined;
  }

  private waitForRoom(allowed: number): Promise<void> | undefined {
    this.throwIfFailed();
    this.allowed = allowed;
    if (this.passed >= this.appended - allowed) return undefined;
    return new Promise((resolve, reject) => {
      this.roomWaiter = { resolve, reject };
    });
  }

  private settleRoom(): void {
    this.roomWaiter?.resolve();
    this.roomWaiter = undefined;
  }
}

/** Passes bytes on in pieces of a decent size. `hear` is told the length of what arrives. */
function gathering(hear: (length: number) => void): Transform {
  let pieces: Buffer[] = [];
  let size = 0;
  const join = () => {
    const joined = pieces.length === 1 ? pieces[0] : Buffer.concat(pieces, size);
    pieces = [];
    size = 0;
    return joined;
  };
  return new Transform({
    highWaterMark: 1024 * 1024,
    transform(chunk: Buffer, _, done) {
      hear(chunk.length);
      if (chunk.length >= LARGE_PIECE) {
        if (size > 0) this.push(join());
        this.push(chunk);
      } else {
        pieces.push(chunk);
        size += chunk.length;
        if (size >= PIECE_SIZE) this.push(join());
      }
      done();
    },
    flush(done) {
      if (size > 0) this.push(join());
      done();
    },
  });
}

/** Tells by a sample whether compressing is worth it: photos, videos and compressed dumps are not. */
export function compresses(sample: Buffer): boolean {
  if (sample.length === 0) return false;
  const packed = zstdCompressSync(sample, { params: { [zlib.ZSTD_c_compressionLevel]: 1 } });
  return packed.length < sample.length * WORTHWHILE;
}

/** The time an entry has in the zip: only for people who look into it, the index has the exact one. */
function dateOf(mtime: bigint): Date {
  const ms = Number(mtime / 1_000_000n);
  return new Date(Math.min(Math.max(ms, 0), Date.UTC(2107, 0)));
}
