import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { LifeboatError } from '../../base/errors.ts';
import { encryptionOf, encryptionOfName, type SealKeys } from '../../plan/seal-keys.ts';
import { decrypting, encrypting } from './encryption.ts';
import { type Filter, throughProgram } from './program.ts';

const ZSTD = '.zst';

const compressing: Filter = {
  command: 'zstd',
  // The checksum makes flipped bits an error at the time of reading.
  args: ['-q', '-c', '-T0', '-3', '--check'],
  failure: () => ({ code: 'TOOL_FAILED', message: 'compressing failed' }),
};

const decompressing: Filter = {
  command: 'zstd',
  args: ['-q', '-d', '-c'],
  failure: () => ({ code: 'OBJECT_DAMAGED', message: 'an object cannot be decompressed' }),
};

/** What an object goes through on its way into the repository. */
interface SealOptions {
  compress: boolean;
  /** the keys of the repository: those to write with decide whether and how it is encrypted */
  keys: SealKeys;
}

/** The suffix that {@link seal} adds to the name of an object. */
function sealSuffix({ compress, keys }: SealOptions): string {
  const encryption = encryptionOf(keys);
  return `${compress ? ZSTD : ''}${encryption === undefined ? '' : `.${encryption}`}`;
}

/**
 * Turns plain bytes into what is stored: compressed first, then encrypted. The returned stream errors when `plain` does or
 * a program fails; destroying it ends the programs and destroys `plain`.
 *
 * @throws SETTING_INVALID for keys that can only read
 */
export function seal(plain: Readable, options: SealOptions): { stream: Readable; suffix: string } {
  const { compress, keys } = options;
  requireKeyToWrite(keys);
  const compressed = compress ? throughProgram(plain, compressing) : plain;
  const stream = encryptionOf(keys) === undefined ? compressed : throughProgram(compressed, encrypting(keys));
  return { stream, suffix: sealSuffix(options) };
}

/**
 * The inverse of {@link seal}, by the suffixes in the object's name.
 *
 * @throws KEY_MISSING; the stream errors with KEY_MISSING, KEY_WRONG or OBJECT_DAMAGED
 */
export function unseal(stored: Readable, name: string, keys: SealKeys): Readable {
  const encryption = encryptionOfName(name);
  let stream = stored;
  if (encryption !== undefined) {
    try {
      stream = throughProgram(stored, decrypting(encryption, keys));
    } catch (error) {
      stored.destroy();
      throw error;
    }
  }
  const rest = encryption === undefined ? name : name.slice(0, -encryption.length - 1);
  return rest.endsWith(ZSTD) ? throughProgram(stream, decompressing) : stream;
}

/**
 * Whether new objects can be encrypted as whoever set the keys wants it: encrypts nothing at all to those to write with. Whether gpg
 * can use a key only gpg can tell: one may have expired.
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
    // A program that is missing says so itself.
    if (error instanceof LifeboatError && error.hint !== undefined) throw error;
    throw new LifeboatError('SETTING_INVALID', `nothing can be encrypted to ${name}`, {
      cause: error,
      hint: 'The keys have to be public keys that can encrypt and have not expired.',
    });
  }
}

/** Who sets a key must not find anything in the clear. */
function requireKeyToWrite(keys: SealKeys): void {
  if (encryptionOf(keys) !== undefined || (keys.ageIdentity ?? keys.gpgPrivateKey) === undefined) return;
  const toRead = keys.ageIdentity === undefined ? 'LIFEBOAT_GPG_PRIVATE_KEY' : 'LIFEBOAT_AGE_IDENTITY';
  throw new LifeboatError('SETTING_INVALID', `${toRead} is set, and nothing to encrypt with`, {
    hint: 'Add LIFEBOAT_AGE_RECIPIENTS (`age-keygen -y` shows what belongs there) or LIFEBOAT_GPG_RECIPIENTS: backups would be stored in the clear.',
  });
}

/** True for an object that can be read as it is stored, also in parts. */
export function isPlain(name: string): boolean {
  return !name.endsWith(ZSTD) && encryptionOfName(name) === undefined;
}
