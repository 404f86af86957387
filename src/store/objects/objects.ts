import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { hasCode, hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { seal, unseal, unsealInto } from '../seal/seal.ts';
import { MAX_DOCUMENT, MAX_READ_RECORD, mostUnpacked } from './bounds.ts';
import type { ObjectRef } from './manifest.ts';

/** Options of putting and fetching whole objects. */
interface ObjectOptions {
  keys: SealKeys;
  signal?: AbortSignal | undefined;
}

/**
 * Puts an object, compressed if `compress` is set and encrypted if there is a key.
 *
 * @param key the object's key without the suffixes of compression and encryption; it has a new random part
 * @param options `record` is called with the full key before the object is put
 */
export async function putObject(
  destination: Destination,
  key: string,
  plain: Readable,
  options: ObjectOptions & { compress: boolean; record?: (key: string) => Promise<void> },
): Promise<ObjectRef> {
  const sealed = seal(plain, { compress: options.compress, keys: options.keys });
  const full = key + sealed.suffix;
  try {
    await options.record?.(full);
    const signal = options.signal ? { signal: options.signal } : {};
    const stored = await destination.put(full, sealed.stream, { newKey: true, ...signal });
    return { key: full, ...stored };
  } catch (error) {
    sealed.stream.destroy();
    throw error;
  }
}

/**
 * Returns true for the error of a destination that forbids a deletion: the object is locked, or the key may only add.
 */
export function isRefusal(error: unknown): boolean {
  return hasCode(error, 'DELETE_REFUSED');
}

/** Deletes an object. Resolves to false if the destination forbids it. */
export async function deleteUnlessKept(destination: Destination, key: string): Promise<boolean> {
  try {
    await destination.delete(key);
    return true;
  } catch (error) {
    if (isRefusal(error)) return false;
    throw error;
  }
}

/**
 * Fetches an object to a new local file (mode 600), decrypted and decompressed. The file exists only if the object is
 * as it was stored. Without `maxSize`, the object is unpacked only after its hash was compared.
 *
 * Nobody who can write to the destination can fill the disk with a small object that unpacks to a large one, not even
 * with a forged manifest that names it.
 *
 * @param options `maxSize`: the largest size of the unpacked file, bytes; absent: {@link mostUnpacked}
 * @throws OBJECT_MISSING, OBJECT_DAMAGED, KEY_MISSING, KEY_WRONG, SPOOL_FULL
 */
export async function fetchFile(
  destination: Destination,
  ref: ObjectRef,
  path: string,
  options: ObjectOptions & { maxSize?: number },
): Promise<void> {
  const sealed = `${path}.sealed`;
  let begun = false;
  const unpack = async (stored: Readable) => {
    const handle = await open(path, 'wx', 0o600).catch((error: unknown) => {
      stored.destroy();
      throw error;
    });
    begun = true;
    try {
      await unsealInto(stored, ref.key, options.keys, { handle, maxSize: options.maxSize ?? mostUnpacked(ref.size) });
    } finally {
      await handle.close();
    }
  };
  try {
    const opened = await openChecked(destination, ref, options);
    if (options.maxSize === undefined) {
      await pipeline(opened.stored, createWriteStream(sealed, { flags: 'wx', mode: 0o600 }));
      opened.check();
      await unpack(createReadStream(sealed));
    } else {
      await unpack(opened.stored);
      opened.check();
    }
  } catch (cause) {
    if (begun) await unlink(path).catch(() => {});
    if (!hasErrno(cause, 'ENOSPC', 'EDQUOT')) throw await whyUnread(destination, ref, cause, options.signal);
    throw new LifeboatError('SPOOL_FULL', `there is no room to unpack ${ref.key}`, {
      cause,
      hint: 'Free space in the spool, or give it a larger volume.',
    });
  } finally {
    await unlink(sealed).catch(() => {});
  }
}

/** Reads a small object as a whole. Throws like {@link fetchFile}. */
export async function fetchDocument(destination: Destination, ref: ObjectRef, options: ObjectOptions): Promise<Buffer> {
  try {
    const opened = await openChecked(destination, ref, options);
    const bytes = await collect(opened.plain(), ref.key, MAX_DOCUMENT);
    opened.check();
    return bytes;
  } catch (error) {
    throw await whyUnread(destination, ref, error, options.signal);
  }
}

/**
 * Returns the real error of an object that could not be opened. If its first bytes were changed, the programs report a
 * wrong key; the object's hash shows which of the two it is.
 */
async function whyUnread(
  destination: Destination,
  ref: ObjectRef,
  error: unknown,
  signal?: AbortSignal,
): Promise<unknown> {
  if (!hasCode(error, 'KEY_WRONG')) return error;
  const hash = createHash('sha256');
  try {
    for await (const chunk of await destination.get(ref.key, signal ? { signal } : {})) hash.update(chunk as Buffer);
  } catch (unread) {
    return unread;
  }
  return hash.digest('hex') === ref.sha256 ? withNeededKey(error, ref) : notAsStored(ref);
}

/** Adds the id of the needed key to KEY_WRONG, if it is known. Anybody may have written the id in a manifest. */
function withNeededKey(error: LifeboatError, ref: ObjectRef & { keyId?: string }): LifeboatError {
  const { keyId } = ref;
  if (keyId === undefined || !/^[0-9a-f]{8}$/.test(keyId)) return error;
  return new LifeboatError(error.code, `${error.message}: it needs key ${keyId}`, {
    cause: error.cause,
    hint: `${error.hint ?? ''} \`lifeboat check\` shows the public key of ${keyId}, if it is known.`.trim(),
  });
}

function notAsStored(ref: ObjectRef): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', `${ref.key} is not what was stored`);
}

/** Options of reading a document whose hash is not known. `limit`: its largest size, default {@link MAX_READ_RECORD} */
type ReadOptions = Omit<ObjectOptions, 'keys'> & { limit?: number };

/** Reads a document whose hash is not known, such as a manifest. @throws OBJECT_DAMAGED if it is too large */
export async function readDocument(
  destination: Destination,
  key: string,
  { signal, limit = MAX_READ_RECORD }: ReadOptions = {},
): Promise<Buffer> {
  return collect(await destination.get(key, signal ? { signal } : {}), key, limit);
}

/** Reads a document like {@link readDocument}; undefined if it does not exist. */
export async function readIfThere(
  destination: Destination,
  key: string,
  options?: ReadOptions,
): Promise<Buffer | undefined> {
  try {
    return await readDocument(destination, key, options);
  } catch (error) {
    if (hasCode(error, 'OBJECT_MISSING')) return undefined;
    throw error;
  }
}

/** A document that exists: its bytes, or the reason why they cannot be read. */
type FoundDocument = { bytes: Buffer; damage?: never } | { bytes?: never; damage: LifeboatError };

/**
 * Reads a document like {@link readIfThere}. A damaged one is a result too. A disk or server that does not respond
 * still throws.
 */
export async function readEvenDamaged(
  destination: Destination,
  key: string,
  options?: ReadOptions,
): Promise<FoundDocument | undefined> {
  try {
    const bytes = await readIfThere(destination, key, options);
    return bytes && { bytes };
  } catch (error) {
    if (hasCode(error, 'OBJECT_DAMAGED')) return { damage: error };
    throw error;
  }
}

/** Opens an object as stored or `plain` bytes. Call `check` after the last byte to compare them with the manifest. */
async function openChecked(
  destination: Destination,
  ref: ObjectRef,
  { signal, keys }: ObjectOptions,
): Promise<{ stored: Readable; plain(): Readable; check(): void }> {
  const stored = await destination.get(ref.key, signal ? { signal } : {});
  const hash = createHash('sha256');
  let size = 0;
  const counted = new PassThrough();
  const done = pipeline(
    stored,
    async function* (source: AsyncIterable<Buffer>) {
      for await (const chunk of source) {
        hash.update(chunk);
        size += chunk.length;
        if (size > ref.size) throw notAsStored(ref);
        yield chunk;
      }
    },
    counted,
  );
  // The reader of `counted` receives the same error.
  done.catch(() => {});
  return {
    stored: counted,
    plain: () => unseal(counted, ref.key, keys),
    check() {
      if (size === ref.size && hash.digest('hex') === ref.sha256) return;
      throw notAsStored(ref);
    },
  };
}

async function collect(stream: Readable, key: string, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > limit) throw new LifeboatError('OBJECT_DAMAGED', `${key} is larger than any such document of Lifeboat`);
  }
  return Buffer.concat(chunks);
}

/** Returns a stream of bytes in memory. */
export function streamOf(bytes: Buffer | string): Readable {
  return Readable.from([Buffer.from(bytes)]);
}
