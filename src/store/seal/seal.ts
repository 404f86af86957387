import type { FileHandle } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { hasCode, LifeboatError } from '../../base/errors.ts';
import { encryptionOf, encryptionOfName, type SealKeys } from '../../plan/seal-keys.ts';
import { decrypting, encrypting } from './encryption.ts';
import { type Filter, isProgram, programIntoFile, type Step, throughProgram, throughStep } from './program.ts';

const ZSTD = '.zst';

/**
 * Threads of one compression. Each takes memory: 64 of them 586 MiB, 4 of them 94 MiB, and one 49 MiB, measured with
 * zstd 1.5.4 at level 3.
 */
const THREADS = Math.min(4, availableParallelism());

/** The largest window of a frame to decompress, which limits the memory for it. The default of zstd. */
const MEMORY = '128MiB';

const compressing: Filter = {
  command: 'zstd',
  // The checksum detects flipped bits on reading.
  args: ['-q', '-c', `-T${THREADS}`, '-3', '--check'],
  failure: () => ({ code: 'TOOL_FAILED', message: 'compressing failed' }),
};

const decompressing: Filter = {
  command: 'zstd',
  args: ['-q', '-d', '-c', `--memory=${MEMORY}`],
  failure: () => ({ code: 'OBJECT_DAMAGED', message: 'an object cannot be decompressed' }),
};

/** The least limit of a file's size for a program, bytes. It holds for the temporary files of gpg too. */
const LEAST = 1024 ** 2;

/** Options of compression and encryption. */
interface SealOptions {
  compress: boolean;
  /** the keys of the repository; its public keys or passphrase decide whether and how an object is encrypted */
  keys: SealKeys;
}

/** Returns the suffix that {@link seal} adds to the name of an object. */
function sealSuffix({ compress, keys }: SealOptions): string {
  const encryption = encryptionOf(keys);
  return `${compress ? ZSTD : ''}${encryption === undefined ? '' : `.${encryption}`}`;
}

/**
 * Compresses, then encrypts a stream as `options` say. The returned stream fails if `plain` or a program fails.
 * Destroying it ends the programs and destroys `plain`.
 *
 * @throws SETTING_INVALID for keys that can only decrypt
 */
export function seal(plain: Readable, options: SealOptions): { stream: Readable; suffix: string } {
  const { compress, keys } = options;
  requireKeyToWrite(keys);
  const compressed = compress ? throughProgram(plain, compressing) : plain;
  const stream = encryptionOf(keys) === undefined ? compressed : throughStep(compressed, encrypting(keys));
  return { stream, suffix: sealSuffix(options) };
}

/**
 * Decrypts and decompresses a stored stream as the suffixes of the object's name say: the inverse of {@link seal}. The
 * stream fails with KEY_MISSING, KEY_WRONG or OBJECT_DAMAGED.
 *
 * @throws KEY_MISSING
 */
export function unseal(stored: Readable, name: string, keys: SealKeys): Readable {
  return unsealing(stored, name, keys).reduce(throughStep, stored);
}

/**
 * Decrypts and decompresses a stored stream like {@link unseal}, into an open, empty file. If the last step is a
 * program, it writes to the file itself, because it costs more to copy its output than to decompress.
 *
 * @param file `maxSize`: its largest size, bytes
 * @throws KEY_MISSING, KEY_WRONG, OBJECT_DAMAGED; an error with the code ENOSPC if the disk is full
 */
export async function unsealInto(
  stored: Readable,
  name: string,
  keys: SealKeys,
  { handle, maxSize = Number.POSITIVE_INFINITY }: { handle: FileHandle; maxSize?: number | undefined },
): Promise<void> {
  const requireSize = (size: number) => {
    if (size > maxSize) throw new LifeboatError('OBJECT_DAMAGED', `${name} unpacks to more than it should`);
  };
  const steps = unsealing(stored, name, keys);
  const last = steps.at(-1);
  if (!last || !isProgram(last)) {
    let size = 0;
    const limit = async function* (source: AsyncIterable<Buffer>) {
      for await (const chunk of source) {
        size += chunk.length;
        requireSize(size);
        yield chunk;
      }
    };
    return handle.writeFile(limit(steps.reduce(throughStep, stored)));
  }
  // One byte more: a file of the limit's size was cut.
  const limit = Number.isFinite(maxSize) ? { maxSize: Math.max(maxSize, LEAST) + 1 } : {};
  try {
    await programIntoFile(steps.slice(0, -1).reduce(throughStep, stored), last, { fd: handle.fd, ...limit });
  } catch (error) {
    // A program that reaches the limit ends by a signal, or with an error of its own.
    if (hasCode(error, 'OBJECT_DAMAGED', 'KEY_WRONG')) requireSize((await handle.stat()).size);
    throw error;
  }
  requireSize((await handle.stat()).size);
}

/** Returns the steps that undo the suffixes of a name, in order. Destroys the stream if a key is missing. */
function unsealing(stored: Readable, name: string, keys: SealKeys): Step[] {
  const encryption = encryptionOfName(name);
  const rest = encryption === undefined ? name : name.slice(0, -encryption.length - 1);
  const decompress = rest.endsWith(ZSTD) ? [decompressing] : [];
  if (encryption === undefined) return decompress;
  try {
    return [decrypting(encryption, keys), ...decompress];
  } catch (error) {
    stored.destroy();
    throw error;
  }
}

/**
 * Checks that new objects can be encrypted with the keys, by encrypting an empty input. Only gpg itself knows whether
 * it can use a key: the key may have expired.
 *
 * @throws SETTING_INVALID, TOOL_FAILED
 */
export async function checkKeys(keys: SealKeys): Promise<void> {
  const name = keys.ageRecipients ? 'LIFEBOAT_AGE_RECIPIENTS' : 'LIFEBOAT_GPG_RECIPIENTS';
  requireKeyToWrite(keys);
  if (keys.ageRecipients === undefined && keys.gpgRecipients === undefined) return;
  try {
    await buffer(seal(Readable.from([Buffer.alloc(0)]), { compress: false, keys }).stream);
  } catch (error) {
    // The error of a missing program has its own hint.
    if (error instanceof LifeboatError && error.hint !== undefined) throw error;
    throw new LifeboatError('SETTING_INVALID', `nothing can be encrypted to ${name}`, {
      cause: error,
      hint: 'Set public keys that can encrypt and have not expired.',
    });
  }
}

/** Refuses keys that can only decrypt: a user who sets a key does not expect unencrypted backups. */
function requireKeyToWrite(keys: SealKeys): void {
  if (encryptionOf(keys) !== undefined || (keys.ageIdentity ?? keys.gpgPrivateKey) === undefined) return;
  const toRead = keys.ageIdentity === undefined ? 'LIFEBOAT_GPG_PRIVATE_KEY' : 'LIFEBOAT_AGE_IDENTITY';
  throw new LifeboatError('SETTING_INVALID', `${toRead} is set, but no key to encrypt with`, {
    hint: 'Add LIFEBOAT_AGE_RECIPIENTS (`age-keygen -y` prints the value) or LIFEBOAT_GPG_RECIPIENTS. Without it, backups would be stored unencrypted.',
  });
}

/** Returns true for an object that is neither compressed nor encrypted, so that parts of it can be read. */
export function isPlain(name: string): boolean {
  return !name.endsWith(ZSTD) && encryptionOfName(name) === undefined;
}
