import { Writable } from 'node:stream';

/**
 * A sink that keeps the start and the end of its input, at most `limit` bytes in total. An endless command uses limited
 * memory, and its last lines, which name the failure, are kept.
 */
export class Capture extends Writable {
  private readonly headLimit: number;
  private readonly tailLimit: number;
  private readonly head: Buffer[] = [];
  private headSize = 0;
  private tail: Buffer[] = [];
  private tailSize = 0;
  private written = 0;

  /** @param limit bytes; `head` of them for the start, by default half */
  constructor(limit: number, head = Math.floor(limit / 2)) {
    super({ decodeStrings: true });
    this.headLimit = head;
    this.tailLimit = limit - head;
  }

  /** The number of bytes written so far. */
  get total(): number {
    return this.written;
  }

  /** True if bytes were left out. */
  get truncated(): boolean {
    return this.written > this.headSize + Math.min(this.tailSize, this.tailLimit);
  }

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.add(chunk);
    callback();
  }

  /** Adds a chunk directly, without the stream. */
  add(chunk: Buffer): void {
    this.written += chunk.length;
    const first = chunk.subarray(0, this.headLimit - this.headSize);
    // Copies, because a small slice would keep its whole network buffer alive.
    if (first.length > 0) {
      this.head.push(Buffer.from(first));
      this.headSize += first.length;
    }
    const rest = chunk.subarray(first.length).subarray(-this.tailLimit);
    if (rest.length === 0 || this.tailLimit === 0) return;
    this.tail.push(Buffer.from(rest));
    this.tailSize += rest.length;
    // Joined rarely, because joining for each chunk would take quadratic time.
    if (this.tailSize > 2 * this.tailLimit || this.tail.length > 1024) this.trim();
  }

  /** Returns the kept bytes as UTF-8, with a note in place of missing ones. */
  text(): string {
    this.trim();
    const head = Buffer.concat(this.head);
    const tail = Buffer.concat(this.tail);
    const missing = this.written - head.length - tail.length;
    if (missing === 0) return Buffer.concat([head, tail]).toString('utf8');
    return `${head.toString('utf8')}\n[${missing} B left out]\n${tail.toString('utf8')}`;
  }

  private trim(): void {
    const tail = Buffer.concat(this.tail).subarray(-this.tailLimit);
    this.tail = tail.length > 0 ? [Buffer.from(tail)] : [];
    this.tailSize = tail.length;
  }
}

/** Returns the end of a command's output as one line of at most `limit` characters, for an error message. */
export function lastWords(text: string, limit = 400): string {
  const flat = text.trim().replace(/\s*\n\s*/g, '; ');
  return flat.length > limit ? `…${flat.slice(-limit)}` : flat;
}
