import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject, randomBytes } from 'node:crypto';
import { Transform, type TransformCallback } from 'node:stream';
import { LifeboatError } from '../../base/errors.ts';
import { DAMAGED, WRONG } from './failures.ts';

/**
 * The age format inside the process (age-encryption.org/v1, github.com/C2SP/C2SP/blob/main/age.md). A library wraps and
 * unwraps the key of a file. Node encrypts and decrypts the payload, because the library's ChaCha20-Poly1305 is written
 * in JavaScript and much slower.
 */

const CHUNK_SIZE = 64 * 1024;
const TAG_SIZE = 16;
const NONCE_SIZE = 16;
const FILE_KEY_SIZE = 16;

/** The largest header that is read, bytes. A recipient takes about 100 of them, and a millisecond to try. */
const MAX_HEADER = 64 * 1024;

/** Returns the keys of an identity file: one a line, comments begin with `#`. */
function identitiesOf(identity: string): string[] {
  const lines = identity.split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '' && !line.startsWith('#'));
}

/**
 * Returns a stream that encrypts to recipients (X25519 public keys, `age1…`). It fails with TOOL_FAILED if one of them
 * is not a valid key.
 */
export function encryptAge(recipients: readonly string[]): Transform {
  const chunks = new Chunks(CHUNK_SIZE);
  let payload: Payload | undefined;
  const begin = async (stream: Transform) => {
    const { header, fileKey } = await makeHeader(recipients);
    const nonce = randomBytes(NONCE_SIZE);
    stream.push(Buffer.concat([header, nonce]));
    return new Payload(fileKey, nonce);
  };
  return new Transform({
    transform: asCallback(async (stream, data) => {
      payload ??= await begin(stream);
      for (const chunk of chunks.add(data)) payload.encrypt(chunk, false, stream);
    }),
    flush: asFlush(async (stream) => {
      payload ??= await begin(stream);
      payload.encrypt(chunks.rest(), true, stream);
    }),
  });
}

/**
 * Returns a stream that decrypts: the inverse of {@link encryptAge}. It fails with KEY_WRONG or OBJECT_DAMAGED, and
 * never passes on what is not authentic.
 *
 * @param identity the content of an identity file: one X25519 private key a line
 */
export function decryptAge(identity: string): Transform {
  const chunks = new Chunks(CHUNK_SIZE + TAG_SIZE);
  let head = Buffer.alloc(0);
  let payload: Payload | undefined;
  return new Transform({
    transform: asCallback(async (stream, data) => {
      let rest = data;
      if (!payload) {
        head = Buffer.concat([head, data]);
        const end = endOfHeader(head);
        if (end === undefined || head.length < end + NONCE_SIZE) {
          if (head.length > MAX_HEADER) throw damaged('the header is too long');
          return;
        }
        const fileKey = await openHeader(head.subarray(0, end), identity);
        rest = head.subarray(end + NONCE_SIZE);
        payload = new Payload(fileKey, head.subarray(end, end + NONCE_SIZE));
      }
      for (const chunk of chunks.add(rest)) payload.decrypt(chunk, false, stream);
    }),
    flush: asFlush(async (stream) => {
      if (!payload) throw damaged('the header is cut');
      payload.decrypt(chunks.rest(), true, stream);
    }),
  });
}

/** Splits a stream into chunks of one size. The last one may be smaller. */
class Chunks {
  private readonly size: number;
  private readonly buffer: Buffer;
  private filled = 0;

  constructor(size: number) {
    this.size = size;
    this.buffer = Buffer.allocUnsafe(size);
  }

  /** Yields the chunks that more bytes follow. Each is valid until the next is requested. */
  *add(data: Buffer): Generator<Buffer> {
    for (let at = 0; at < data.length; ) {
      if (this.filled === this.size) {
        this.filled = 0;
        yield this.buffer;
      }
      const copied = data.copy(this.buffer, this.filled, at);
      this.filled += copied;
      at += copied;
    }
  }

  rest(): Buffer {
    return this.buffer.subarray(0, this.filled);
  }
}

/** The payload of an age file: the STREAM construction with ChaCha20-Poly1305, in chunks of 64 KiB. */
class Payload {
  // Node takes this form of a key in half the time.
  private readonly key: KeyObject;
  private index = 0;

  constructor(fileKey: Uint8Array, nonce: Buffer) {
    this.key = createSecretKey(Buffer.from(hkdfSync('sha256', fileKey, nonce, 'payload', 32)));
  }

  encrypt(chunk: Buffer, isLast: boolean, to: Transform): void {
    const cipher = createCipheriv('chacha20-poly1305', this.key, this.nextNonce(isLast), { authTagLength: TAG_SIZE });
    to.push(cipher.update(chunk));
    cipher.final();
    to.push(cipher.getAuthTag());
  }

  decrypt(sealed: Buffer, isLast: boolean, to: Transform): void {
    const size = sealed.length - TAG_SIZE;
    // Only an empty payload has an empty chunk.
    if (size < 0 || (size === 0 && this.index > 0)) throw damaged('the payload is cut');
    const nonce = this.nextNonce(isLast);
    const decipher = createDecipheriv('chacha20-poly1305', this.key, nonce, { authTagLength: TAG_SIZE });
    decipher.setAuthTag(sealed.subarray(size));
    const plain = decipher.update(sealed.subarray(0, size));
    try {
      decipher.final();
    } catch (cause) {
      throw damaged('a chunk is not authentic', cause);
    }
    to.push(plain);
  }

  /** Returns 11 bytes with the number of the chunk, big-endian, and one that is 1 for the last chunk. */
  private nextNonce(isLast: boolean): Buffer {
    const nonce = Buffer.alloc(12);
    nonce.writeUIntBE(this.index++, 5, 6);
    nonce[11] = isLast ? 1 : 0;
    return nonce;
  }
}

/** Makes a header for a new file key. */
async function makeHeader(recipients: readonly string[]): Promise<{ header: Buffer; fileKey: Uint8Array }> {
  const { Encrypter } = await import('age-encryption');
  const encrypter = new Encrypter();
  let fileKey: Uint8Array | undefined;
  // The library shows a file key only to recipients. This one learns the key and adds nothing to the header.
  const learn = (key: Uint8Array) => {
    fileKey = Uint8Array.from(key);
    return [];
  };
  try {
    for (const recipient of recipients) encrypter.addRecipient(recipient);
    encrypter.addRecipient({ wrapFileKey: learn });
    const empty = Buffer.from(await encrypter.encrypt(new Uint8Array()));
    const end = endOfHeader(empty);
    if (end === undefined || fileKey?.length !== FILE_KEY_SIZE) throw new Error('the library made no age header');
    return { header: empty.subarray(0, end), fileKey };
  } catch (cause) {
    throw new LifeboatError('TOOL_FAILED', 'encrypting with age failed', { cause });
  }
}

/** Returns the file key of a header: the inverse of {@link makeHeader}. @throws KEY_WRONG, OBJECT_DAMAGED */
async function openHeader(header: Buffer, identity: string): Promise<Uint8Array> {
  const { Decrypter } = await import('age-encryption');
  const decrypter = new Decrypter();
  try {
    for (const one of identitiesOf(identity)) decrypter.addIdentity(one);
  } catch (cause) {
    throw wrongKey(cause);
  }
  try {
    return await decrypter.decryptHeader(header);
  } catch (cause) {
    if (/no identity matched/.test(String(cause))) throw wrongKey(cause);
    throw damaged('the header cannot be opened', cause);
  }
}

/** Returns where the header ends, after the line that begins with `---`; undefined if it is not complete. */
function endOfHeader(head: Buffer): number | undefined {
  const last = head.indexOf('\n---');
  const end = last < 0 ? -1 : head.indexOf('\n', last + 1);
  return end < 0 ? undefined : end + 1;
}

function damaged(why: string, cause?: unknown): LifeboatError {
  const { code, message } = DAMAGED;
  return new LifeboatError(code, message, { cause: new Error(why, { cause }) });
}

function wrongKey(cause: unknown): LifeboatError {
  const { code, message, hint } = WRONG.age;
  return new LifeboatError(code, message, { cause, hint });
}

function asCallback(work: (stream: Transform, data: Buffer) => Promise<void>) {
  return function (this: Transform, data: Buffer, _: BufferEncoding, done: TransformCallback): void {
    work(this, data).then(() => done(), done);
  };
}

function asFlush(work: (stream: Transform) => Promise<void>) {
  return function (this: Transform, done: TransformCallback): void {
    work(this).then(() => done(), done);
  };
}
