import { Readable } from 'node:stream';
import { onAbort } from '../../base/abort.ts';
import { LifeboatError } from '../../base/errors.ts';
import type { S3Outage } from './outage.ts';
import { isPassing, pause, type S3Limits, statusOf } from './retry.ts';

/** The answer to a request for an object, or the rest of one. */
export interface S3Answer {
  body: Readable;
  /** bytes that it has to have, from where it was asked for */
  length: number;
  etag: string | undefined;
}

interface S3BodyOptions {
  key: string;
  first: S3Answer;
  limits: S3Limits;
  outage: Pick<S3Outage, 'timer'>;
  /** asks for the rest, from that many bytes after the first one on, of the object with that ETag */
  resume(from: number, etag: string | undefined, signal: AbortSignal): Promise<S3Answer>;
  /** makes the error that people see */
  explain(error: unknown): unknown;
  signal?: AbortSignal | undefined;
}

/**
 * The content of an object. A connection that breaks, ends early or falls silent is made anew from where it stopped, a
 * bounded number of times without a byte of progress. Destroying it ends the request.
 */
export class S3Body extends Readable {
  private readonly options: S3BodyOptions;
  private readonly stop = new AbortController();
  private answer: S3Answer;
  private chunks: AsyncIterator<Buffer>;
  private passed = 0;
  /** failures since the last byte, and how long was waited for one since, milliseconds */
  private failures = 0;
  private silent = 0;
  private asked = 0;
  private forget: () => void = () => {};

  constructor(options: S3BodyOptions) {
    super({ highWaterMark: 256 * 1024 });
    this.options = options;
    this.answer = options.first;
    this.chunks = iterate(options.first.body);
    this.forget = onAbort(options.signal, () => this.destroy(reasonOf(options.signal)));
  }

  override _read(): void {
    this.next().then(
      (chunk) => {
        if (!this.destroyed) this.push(chunk);
      },
      (error: Error) => this.destroy(error),
    );
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.forget();
    this.stop.abort();
    this.answer.body.destroy();
    done(error);
  }

  /** The next bytes; null at the end. */
  private async next(): Promise<Buffer | null> {
    const { first, key } = this.options;
    for (;;) {
      if (this.passed === first.length) return null;
      this.asked = performance.now();
      try {
        const { value, done } = await this.heard(this.chunks.next());
        if (done) throw Object.assign(new Error('the answer ended early'), { code: 'ECONNRESET' });
        const chunk: Buffer = value;
        if (this.passed + chunk.length > first.length) {
          throw new LifeboatError('OBJECT_DAMAGED', `${key} came with more bytes than it has`);
        }
        this.passed += chunk.length;
        this.failures = 0;
        this.silent = 0;
        if (chunk.length > 0) return chunk;
      } catch (error) {
        await this.again(error);
      }
    }
  }

  /** Rejects when nothing arrives for too long. Only counts while somebody waits for it. */
  private async heard<T>(coming: Promise<T>): Promise<T> {
    const { promise: silence, reject } = Promise.withResolvers<never>();
    const fail = () => reject(Object.assign(new Error('the answer stopped coming'), { code: 'ETIMEDOUT' }));
    const timer = this.options.outage.timer(this.options.limits.silenceMs, fail);
    coming.catch(() => undefined);
    try {
      return await Promise.race([coming, silence]);
    } finally {
      timer.end();
    }
  }

  private async again(error: unknown): Promise<void> {
    const { key, limits, resume, explain, first } = this.options;
    this.answer.body.destroy();
    this.stop.signal.throwIfAborted();
    // Only while somebody waits: a reader that is slow is no silence of the server.
    this.silent += performance.now() - this.asked;
    const over = ++this.failures >= limits.attempts || this.silent >= limits.outageMs;
    if (!isPassing(error) || over) throw explain(error);
    await pause(this.failures, limits, this.stop.signal);
    this.stop.signal.throwIfAborted();
    try {
      this.answer = await resume(this.passed, first.etag, this.stop.signal);
    } catch (cause) {
      if (statusOf(cause) !== 412) throw explain(cause);
      throw new LifeboatError('OBJECT_DAMAGED', `${key} changed while it was read`, { cause });
    }
    if (this.destroyed) this.answer.body.destroy();
    if (this.answer.length !== first.length - this.passed) {
      // The same object: a proxy that sends all of it again, or a part, says nothing of what is stored.
      if (this.answer.etag !== undefined && this.answer.etag === first.etag) {
        throw new LifeboatError('DEST_UNREACHABLE', `the rest of ${key} did not come as it was asked for`, {
          hint: 'Look at what is between Lifeboat and the server: a proxy must hand on requests for a range.',
        });
      }
      throw new LifeboatError('OBJECT_DAMAGED', `${key} changed its size while it was read`);
    }
    this.chunks = iterate(this.answer.body);
  }
}

function iterate(body: Readable): AsyncIterator<Buffer> {
  // What happens after it was given up concerns nobody.
  body.on('error', () => undefined);
  return body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
}

function reasonOf(signal: AbortSignal | undefined): Error {
  return signal?.reason instanceof Error ? signal.reason : new Error('aborted');
}
