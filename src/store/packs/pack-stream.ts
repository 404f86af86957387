import { constants as zlib, zstdCompressSync } from 'node:zlib';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { keyId } from '../seal/encryption.ts';
import { seal } from '../seal/seal.ts';
import { ByteQueue } from './byte-queue.ts';
import { ZipHeaders } from './zip.ts';

/** A manifest's reference to a pack. */
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
  /** id of the encryption keys, see `keyId`; absent: the pack is not encrypted */
  keyId?: string | undefined;
}

/** A content that was read and hashed. */
export interface PackContent {
  bytes: Buffer;
  crc32: number;
  /** nanoseconds since 1970 */
  mtime: bigint;
}

/** Options of a new pack. */
export interface PackStreamOptions {
  id: string;
  /** the object's key without the suffixes of compression and encryption */
  key: string;
  destination: Destination;
  keys: SealKeys;
  /** awaited before the first byte goes to the destination */
  recordObject(key: string): Promise<void>;
  signal?: AbortSignal | undefined;
}

/** The number of bytes that may wait for the destination. */
const MAX_WAITING = 4 * 1024 * 1024;

/** A pack is compressed only if its sample shrinks below this ratio. */
const WORTHWHILE = 0.93;
/** Size of the sample, bytes. */
export const SAMPLE_SIZE = 256 * 1024;

/**
 * Streams one zip to the destination. Calls must not overlap: await each append before the next. After a failure every
 * call rejects with it, and nothing is stored.
 */
export class PackStream {
  readonly id: string;
  private readonly isCompressed: boolean;
  private readonly options: PackStreamOptions;
  private readonly zip = new ZipHeaders();
  private readonly queue = new ByteQueue(MAX_WAITING);
  private readonly stored: Promise<PackRef>;

  /** @param isCompressed whether to compress the pack, see {@link isCompressible} */
  constructor(options: PackStreamOptions, isCompressed: boolean) {
    this.options = options;
    this.id = options.id;
    this.isCompressed = isCompressed;
    this.stored = this.store();
    this.stored.catch((error) => this.queue.fail(error));
  }

  private async store(): Promise<PackRef> {
    const { destination, keys, recordObject, signal, id } = this.options;
    const sealed = seal(this.queue.stream, { compress: this.isCompressed, keys });
    const key = this.options.key + sealed.suffix;
    try {
      await recordObject(key);
      const stored = await destination.put(key, sealed.stream, { newKey: true, ...(signal ? { signal } : {}) });
      const encrypted = keyId(keys);
      const ref = { id, key, size: stored.size, sha256: stored.sha256, plainSize: this.zip.size };
      return encrypted === undefined ? ref : { ...ref, keyId: encrypted };
    } catch (error) {
      sealed.stream.destroy();
      throw error;
    }
  }

  /** Adds a content from memory. The caller must not change its bytes afterwards. */
  async append(entry: string, { bytes, crc32, mtime }: PackContent): Promise<void> {
    this.queue.write(this.zip.before(entry, mtime, { size: bytes.length, crc32 }));
    this.queue.write(bytes);
    await this.queue.room();
  }

  /** Ends the zip and waits until it is stored completely. */
  async finish(): Promise<PackRef> {
    this.queue.write(this.zip.end());
    this.queue.end();
    return this.stored;
  }

  /** Aborts the pack. Resolves once the destination holds nothing of it. */
  async abandon(reason: Error): Promise<void> {
    this.queue.fail(reason);
    await this.stored.catch(() => {});
  }
}

/**
 * Returns whether compression is worthwhile, judged by the beginning of the content. It is not for photos, videos and
 * compressed dumps.
 */
export function isCompressible(content: Buffer): boolean {
  const sample = content.subarray(0, SAMPLE_SIZE);
  if (sample.length === 0) return false;
  const packed = zstdCompressSync(sample, { params: { [zlib.ZSTD_c_compressionLevel]: 1 } });
  return packed.length < sample.length * WORTHWHILE;
}
