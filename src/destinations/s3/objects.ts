import { createHash } from 'node:crypto';
import type { CompletedPart } from '@aws-sdk/client-s3';
import { LifeboatError } from '../../base/errors.ts';
import { markUncertain } from '../destination.ts';
import { alreadyThere } from '../keys.ts';
import type { S3Connection } from './client.ts';
import { isPassing, statusOf } from './retry.ts';

/**
 * Metadata key for the mark of the put that stored an object. If a response is lost, Lifeboat checks the object's mark.
 */
const MARK = 'lifeboat-put';
/** AWS may take minutes to combine many parts. */
const COMPLETE_MS = 10 * 60_000;
/** The most that a socket and the network behind it may buffer, bytes. */
const IN_SOCKET = 8 * 1024 * 1024;
/** Time limit of cleaning up after a failure, milliseconds. */
const CLEAR_UP_MS = 10_000;

/** The properties of a stored object. */
interface S3Head {
  size: number;
  /** the mark of the put that stored it */
  mark: string | undefined;
}

/** Stores one object: sends the requests, and checks their outcome. */
export class S3Put {
  private readonly s3: S3Connection;
  private readonly key: string;
  readonly mark: string;
  /** its upload was interrupted, and stays for a later put of the same bytes */
  toBeResumed = false;
  private readonly signal: AbortSignal | undefined;
  private clearingUp: AbortSignal | undefined;

  /**
   * @param key without the prefix
   * @param mark unique to this put
   */
  constructor(s3: S3Connection, key: string, mark: string, signal: AbortSignal | undefined) {
    this.s3 = s3;
    this.key = key;
    this.mark = mark;
    this.signal = signal;
  }

  private get target() {
    return { Bucket: this.s3.bucket, Key: this.s3.prefix + this.key };
  }

  private get attributes() {
    const storageClass = this.s3.storageClassOf(this.key);
    return { Metadata: { [MARK]: this.mark }, ...(storageClass ? { StorageClass: storageClass as 'STANDARD' } : {}) };
  }

  /** Reads the properties of the object; undefined if there is none. */
  async head(signal = this.signal): Promise<S3Head | undefined> {
    try {
      const { ContentLength, Metadata } = await this.s3.send(
        (sdk, client, options) => client.send(new sdk.HeadObjectCommand(this.target), options),
        { signal },
      );
      return { size: ContentLength ?? 0, mark: Metadata?.[MARK] };
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw error;
    }
  }

  /**
   * Stores an object in one request.
   *
   * @param trusted does not read the object back if the server responds with the MD5 of the content
   */
  async whole(content: Buffer, trusted: boolean): Promise<void> {
    const body = { Body: content, ContentLength: content.length, ContentMD5: md5(content) };
    const proof = trusted ? etagOf(content) : undefined;
    await this.commit({ size: content.length, proof }, (condition) =>
      this.s3.send(
        (sdk, client, options) =>
          client.send(new sdk.PutObjectCommand({ ...this.target, ...this.attributes, ...body, ...condition }), options),
        { ...this.timed(content.length), passing: () => false },
      ),
    );
  }

  /** Begins an upload in parts. If `attempts` is over 1, several uploads may have begun. */
  async begin(): Promise<{ upload: string; attempts: number }> {
    let attempts = 0;
    const { UploadId } = await this.s3.send(
      (sdk, client, options) => {
        attempts++;
        return client.send(new sdk.CreateMultipartUploadCommand({ ...this.target, ...this.attributes }), options);
      },
      { signal: this.signal },
    );
    if (UploadId) return { upload: UploadId, attempts };
    throw new LifeboatError('DEST_UNWRITABLE', `${this.s3.name} began an upload without an id`);
  }

  /** Returns true if the network, the server or the signal interrupted the put, and not a fault in the content. */
  isCutOff(error: unknown): boolean {
    return this.signal?.aborted === true || isPassing(error);
  }

  /** Sends a part; `number` counts from 1. */
  async part(upload: string, number: number, content: Buffer): Promise<CompletedPart> {
    const part = { UploadId: upload, PartNumber: number, ContentLength: content.length, ContentMD5: md5(content) };
    const { ETag } = await this.s3.send(
      (sdk, client, options) =>
        client.send(new sdk.UploadPartCommand({ ...this.target, ...part, Body: content }), options),
      this.timed(content.length),
    );
    return { PartNumber: number, ETag };
  }

  /** Combines the parts into the object. @throws DEST_EXISTS */
  async complete(upload: string, parts: CompletedPart[], size: number): Promise<void> {
    // Ceph 18 and others honour the condition only for single requests, and much time has passed since the first check.
    if (await this.head()) throw alreadyThere(this.key);
    const all = { UploadId: upload, MultipartUpload: { Parts: parts } };
    await this.commit({ size }, (condition) =>
      this.s3.send(
        (sdk, client, options) =>
          client.send(new sdk.CompleteMultipartUploadCommand({ ...this.target, ...all, ...condition }), options),
        { signal: this.signal, limitMs: COMPLETE_MS, passing: () => false },
      ),
    );
  }

  /** Aborts an upload. Returns true if it is known to be gone. If not, the next sweep removes it. */
  async abandon(upload: string): Promise<boolean> {
    const request = { ...this.target, UploadId: upload };
    try {
      await this.s3.send((sdk, client, options) => client.send(new sdk.AbortMultipartUploadCommand(request), options), {
        signal: this.clearUp(),
      });
      return true;
    } catch (error) {
      return statusOf(error) === 404;
    }
  }

  /** All cleanup of one object shares one time limit. */
  private clearUp(): AbortSignal {
    this.clearingUp ??= AbortSignal.timeout(CLEAR_UP_MS);
    return this.clearingUp;
  }

  /** Removes the object if this put stored it: a request may have succeeded after it was given up. */
  async discard(): Promise<void> {
    const signal = this.clearUp();
    try {
      if ((await this.head(signal))?.mark !== this.mark) return;
      await this.s3.send((sdk, client, options) => client.send(new sdk.DeleteObjectCommand(this.target), options), {
        signal,
      });
    } catch {
      // The run's journal contains the key, and the next run cleans up.
    }
  }

  /**
   * Sends the request that makes the object visible, and verifies the object. A failed attempt may have succeeded on
   * the server, so the object is checked before each further attempt.
   *
   * @param expected `proof`: the ETag that proves that the object is stored as sent; absent: none does
   * @throws DEST_EXISTS if another put has stored the object; DEST_DAMAGED if its size differs from the size sent
   */
  private async commit(
    { size, proof }: { size: number; proof?: string | undefined },
    request: (condition: { IfNoneMatch?: string }) => Promise<{ ETag?: string | undefined }>,
  ): Promise<void> {
    const { attempts, outageMs } = this.s3.limits;
    let condition: { IfNoneMatch?: string } = { IfNoneMatch: '*' };
    let silent = 0;
    // A request of an earlier attempt may still arrive.
    let unknown = false;
    const fail = (error: unknown) => (unknown ? markUncertain(error) : error);
    for (let number = 1; ; number++) {
      const began = performance.now();
      try {
        const { ETag } = await request(condition);
        if (proof !== undefined && ETag === proof && !unknown) return;
        break;
      } catch (error) {
        this.signal?.throwIfAborted();
        if (statusOf(error) === undefined) silent += performance.now() - began;
        const status = statusOf(error);
        const lost = status === 412 || status === 404;
        if (status === 501 && condition.IfNoneMatch) {
          // The server does not support conditions. The earlier check must suffice.
          condition = {};
          continue;
        }
        if (!lost && !isPassing(error)) throw fail(error);
        unknown ||= !lost;
        const found = await this.head().catch((cause: unknown) => {
          throw fail(cause);
        });
        if (found?.mark === this.mark) break;
        if (status === 412 && found) throw alreadyThere(this.key);
        if ((lost && status !== 412) || number >= attempts || silent >= outageMs) {
          throw lost ? fail(error) : error;
        }
        await this.s3.pause(number, this.signal);
      }
    }
    unknown = true;
    await this.verify(size).catch((error: unknown) => {
      throw fail(error);
    });
  }

  private async verify(size: number): Promise<void> {
    const found = await this.appears();
    const mark = found?.mark;
    // Some servers do not store marks. An object with a different mark belongs to another put.
    if (found && mark !== undefined && mark !== this.mark) throw alreadyThere(this.key);
    if (found?.size === size) return;
    const is = found ? `has ${found.size} B instead of ${size}` : 'does not exist';
    throw new LifeboatError('DEST_DAMAGED', `${this.key} ${is} after it was stored`, {
      hint: 'Check the server, and everything between it and Lifeboat.',
    });
  }

  /** Some servers show a new object only after a moment. */
  private async appears(): Promise<S3Head | undefined> {
    for (let number = 1; ; number++) {
      const found = await this.head();
      if (found || number >= 4) return found;
      await this.s3.pause(number, this.signal);
    }
  }

  /** Returns options whose time limit covers the bytes that the socket still buffers at the end. */
  private timed(bytes: number) {
    const { silenceMs, slowest } = this.s3.limits;
    const limitMs = silenceMs + Math.ceil((Math.min(bytes, IN_SOCKET) / slowest) * 1000);
    return { signal: this.signal, limitMs };
  }
}

/** Every server compares this with the bytes that arrived. Object Lock requires it. */
function md5(content: Buffer): string {
  return createHash('md5').update(content).digest('base64');
}

/**
 * Returns the ETag that servers give a part with this content. Servers that encrypt with a KMS key use another; then
 * the part is sent again.
 */
export function etagOf(content: Buffer): string {
  return `"${createHash('md5').update(content).digest('hex')}"`;
}
