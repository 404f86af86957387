import { createHash } from 'node:crypto';
import type { CompletedPart } from '@aws-sdk/client-s3';
import { LifeboatError } from '../../base/errors.ts';
import { markUncertain } from '../destination.ts';
import { alreadyThere } from '../keys.ts';
import type { S3Connection } from './client.ts';
import { isPassing, statusOf } from './retry.ts';

/** How the server marks whose attempt an object is: an answer that was lost can be made up for by a look. */
const MARK = 'lifeboat-put';
/** AWS may take minutes to put many parts together. */
const COMPLETE_MS = 10 * 60_000;
/** What a socket and the line behind it take at once may be this much, bytes. */
const IN_SOCKET = 8 * 1024 * 1024;
/** How long clearing up after a failure may take, milliseconds. */
const CLEAR_UP_MS = 10_000;

/** What a look at an object tells. */
interface S3Head {
  size: number;
  /** the mark of the put that stored it */
  mark: string | undefined;
}

/** One object that is being stored: the requests for it, and the look at what came of them. */
export class S3Put {
  private readonly s3: S3Connection;
  private readonly key: string;
  readonly mark: string;
  /** its upload was cut off, and is left for a later put of the same bytes */
  toBeResumed = false;
  private readonly signal: AbortSignal | undefined;
  private clearingUp: AbortSignal | undefined;

  /**
   * @param key as people know it, without the prefix
   * @param mark what no other put has
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
    const { storageClass } = this.s3;
    return { Metadata: { [MARK]: this.mark }, ...(storageClass ? { StorageClass: storageClass as 'STANDARD' } : {}) };
  }

  /** Looks at the object; undefined when there is none. */
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

  /** Stores an object in one request. */
  async whole(content: Buffer): Promise<void> {
    const body = { Body: content, ContentLength: content.length, ContentMD5: md5(content) };
    await this.commit(content.length, (condition) =>
      this.s3.send(
        (sdk, client, options) =>
          client.send(new sdk.PutObjectCommand({ ...this.target, ...this.attributes, ...body, ...condition }), options),
        { ...this.timed(content.length), passing: () => false },
      ),
    );
  }

  /** Begins an upload in parts. `attempts`: more than one may have begun one. */
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
    throw new LifeboatError('DEST_UNWRITABLE', `${this.s3.name} began an upload without a name`);
  }

  /** True when it is the network, the server, or the signal that ended it, and not what was to be sent. */
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

  /** Makes the object of its parts. */
  async complete(upload: string, parts: CompletedPart[], size: number): Promise<void> {
    // Ceph 18 and others honour the condition for whole objects only, and much time has passed since the first look.
    if (await this.head()) throw alreadyThere(this.key);
    const all = { UploadId: upload, MultipartUpload: { Parts: parts } };
    await this.commit(size, (condition) =>
      this.s3.send(
        (sdk, client, options) =>
          client.send(new sdk.CompleteMultipartUploadCommand({ ...this.target, ...all, ...condition }), options),
        { signal: this.signal, limitMs: COMPLETE_MS, passing: () => false },
      ),
    );
  }

  /** Gives up an upload. Returns whether it is known to be gone; if not, the next sweep sees to it. */
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

  /** All clearing up of one object has one time limit. */
  private clearUp(): AbortSignal {
    this.clearingUp ??= AbortSignal.timeout(CLEAR_UP_MS);
    return this.clearingUp;
  }

  /** Removes the object if it is this put's own: a request may have been done though it was given up. */
  async discard(): Promise<void> {
    const signal = this.clearUp();
    try {
      if ((await this.head(signal))?.mark !== this.mark) return;
      await this.s3.send((sdk, client, options) => client.send(new sdk.DeleteObjectCommand(this.target), options), {
        signal,
      });
    } catch {
      // Its key is in the journal of the run, which the next one works off.
    }
  }

  /**
   * The request that makes the object visible, and the proof that it did. A failed attempt may have been done all the
   * same, so each further one begins with a look.
   *
   * @throws DEST_EXISTS when there is an object of somebody else's; DEST_DAMAGED when it is not as large as it was sent
   */
  private async commit(
    size: number,
    request: (condition: { IfNoneMatch?: string }) => Promise<unknown>,
  ): Promise<void> {
    const { attempts, outageMs } = this.s3.limits;
    let condition: { IfNoneMatch?: string } = { IfNoneMatch: '*' };
    let silent = 0;
    // Of an attempt before: its request may still be on its way.
    let unknown = false;
    const fail = (error: unknown) => (unknown ? markUncertain(error) : error);
    for (let number = 1; ; number++) {
      const began = performance.now();
      try {
        await request(condition);
        break;
      } catch (error) {
        this.signal?.throwIfAborted();
        if (statusOf(error) === undefined) silent += performance.now() - began;
        const status = statusOf(error);
        const lost = status === 412 || status === 404;
        if (status === 501 && condition.IfNoneMatch) {
          // A server that knows no conditions: the look before has to do.
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
    // Some servers keep no marks; another's mark is another's object.
    if (found && mark !== undefined && mark !== this.mark) throw alreadyThere(this.key);
    if (found?.size === size) return;
    const is = found ? `has ${found.size} B instead of ${size}` : 'is not there';
    throw new LifeboatError('DEST_DAMAGED', `${this.key} ${is} after it was stored`, {
      hint: 'Look at the server, and at what is between it and Lifeboat.',
    });
  }

  /** A few servers are slow to show what they have taken. */
  private async appears(): Promise<S3Head | undefined> {
    for (let number = 1; ; number++) {
      const found = await this.head();
      if (found || number >= 4) return found;
      await this.s3.pause(number, this.signal);
    }
  }

  /** The end of what was sent waits in the socket for the line. */
  private timed(bytes: number) {
    const { silenceMs, slowest } = this.s3.limits;
    const limitMs = silenceMs + Math.ceil((Math.min(bytes, IN_SOCKET) / slowest) * 1000);
    return { signal: this.signal, limitMs };
  }
}

/** Every server compares it with what arrived; Object Lock demands it. */
function md5(content: Buffer): string {
  return createHash('md5').update(content).digest('base64');
}

/** What servers call a part of these bytes, unless they encrypt it with a key of a service: then it is sent again. */
export function etagOf(content: Buffer): string {
  return `"${createHash('md5').update(content).digest('hex')}"`;
}
