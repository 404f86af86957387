import { Readable } from 'node:stream';
import { onAbort } from '../../base/abort.ts';
import { LifeboatError } from '../../base/errors.ts';
import type { S3Outage } from './outage.ts';
import { isPassing, pause, type S3Limits, statusOf } from './retry.ts';

/** The response to a request for an object, or for the rest of one. */
export interface S3Answer {
  body: Readable;
  /** bytes that the response must contain, from the requested position */
  length: number;
  etag: string | undefined;
}

interface S3BodyOptions {
  key: string;
  first: S3Answer;
  limits: S3Limits;
  outage: Pick<S3Outage, 'timer'>;
  /** requests the rest of the object with this ETag, `from` bytes after the start of the first response */
  resume(from: number, etag: string | undefined, signal: AbortSignal): Promise<S3Answer>;
  /** turns an error into the one that users see */
  explain(error: unknown): unknown;
  signal?: AbortSignal | undefined;
}

/**
 * The content of an object as a stream. If the connection breaks, ends early or goes silent, the stream resumes at that
 * position, and gives up after a number of attempts without a byte of progress. Destroying the stream ends the request.
 */
export class S3Body extends Readable {
  private readonly options: S3BodyOptions;
  private readonly stop = new AbortController();
  private answer: S3Answer;
  private chunks: AsyncIterator<Buffer>;
  private passed = 0;
  /** `failures`: since the last byte; `silent`: time spent waiting since the last byte, milliseconds */
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

  /** Returns the next bytes; null at the end. */
  private async next(): Promise<Buffer | null> {
    const { first, key } = this.options;
    for (;;) {
      if (this.passed === first.length) return null;
      this.asked = performance.now();
      try {
        const { value, done } = await this.withinSilence(this.chunks.next());
        if (done) throw Object.assign(new Error('the response ended early'), { code: 'ECONNRESET' });
        const chunk: Buffer = value;
        if (this.passed + chunk.length > first.length) {
          throw new LifeboatError('OBJECT_DAMAGED', `${key} arrived with more bytes than it has`);
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

  /** Rejects if no bytes arrive for too long. Counts only while a reader waits for them. */
  private async withinSilence<T>(coming: Promise<T>): Promise<T> {
    const { promise: silence, reject } = Promise.withResolvers<never>();
    const fail = () => reject(Object.assign(new Error('the response stopped'), { code: 'ETIMEDOUT' }));
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
    // Counts only while the reader waits: a slow reader does not make the server silent.
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
      // The object is the same. A proxy that sends all of it again, or only a part, says nothing about the stored
      // object.
      if (this.answer.etag !== undefined && this.answer.etag === first.etag) {
        throw new LifeboatError('DEST_UNREACHABLE', `the server did not send the requested part of ${key}`, {
          hint: 'Check the proxies between Lifeboat and the server: they must forward range requests.',
        });
      }
      throw new LifeboatError('OBJECT_DAMAGED', `${key} changed its size while it was being read`);
    }
    this.chunks = iterate(this.answer.body);
  }
}

function iterate(body: Readable): AsyncIterator<Buffer> {
  // Ignores errors that occur after the response was given up.
  body.on('error', () => undefined);
  return body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
}

function reasonOf(signal: AbortSignal | undefined): Error {
  return signal?.reason instanceof Error ? signal.reason : new Error('aborted');
}
