import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import type { Cut, CutBytes } from './chunk-window.ts';
import type { CutRequest } from './cut-worker.ts';
import type { Cutter } from './cutter.ts';

/** Size of a piece, bytes. */
const PIECE = 1024 * 1024;
/** Pieces that the thread has, and has not answered. With more, it would be no faster. */
const MAX_ASKED = 4;
const WORKER_MEMORY = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 32 };

/** Shared memory with data. */
interface Piece {
  memory: Buffer<SharedArrayBuffer>;
  length: number;
}

interface Asked {
  resolve(answer: Cut[]): void;
  reject(error: Error): void;
}

/**
 * Cuts and hashes chunks in a thread of its own, while this one reads, hashes the whole, and stores. The data stays in
 * memory that both threads share: only sizes and hashes come back.
 */
export class CutThread implements Cutter {
  private readonly worker: Worker;
  private readonly asked: Asked[] = [];
  /** answers that nobody has received, in the order of their requests */
  private answers: Promise<Cut[]>[] = [];
  private failure: Error | undefined;
  private whole = createHash('sha256');
  /** data whose chunks the caller may not have stored yet, oldest first */
  private pieces: Piece[] = [];
  /** where the chunks end that the caller has, from the beginning of the first piece, bytes */
  private taken = 0;
  /** the piece being filled, which the thread does not have yet */
  private filling: Piece | undefined;
  private readonly free: Piece['memory'][] = [];

  constructor() {
    // The bundled program has its worker in the same directory.
    const name = import.meta.url.endsWith('.ts') ? './cut-worker.ts' : './cut-worker.js';
    this.worker = new Worker(new URL(name, import.meta.url), { resourceLimits: WORKER_MEMORY });
    this.worker.on('message', (answer: Cut[]) => this.asked.shift()?.resolve(answer));
    this.worker.on('error', (error: Error) => this.fail(error));
    this.worker.on('exit', () => this.fail(new Error('the thread that cuts files ended early')));
  }

  async add(bytes: Buffer): Promise<CutBytes[]> {
    // The other thread has more to do.
    this.whole.update(bytes);
    for (let at = 0; at < bytes.length; ) {
      this.filling ??= { memory: this.free.pop() ?? Buffer.from(new SharedArrayBuffer(PIECE)), length: 0 };
      const copied = bytes.copy(this.filling.memory, this.filling.length, at);
      this.filling.length += copied;
      at += copied;
      if (this.filling.length === PIECE) this.send();
    }
    return this.receive(MAX_ASKED);
  }

  endRange(): Promise<CutBytes[]> {
    this.send();
    this.ask('end of range');
    return this.receive(0);
  }

  async finish(suffix: string): Promise<string> {
    const sha256 = this.whole.update(suffix).digest('hex');
    await this.reset();
    return sha256;
  }

  async reset(): Promise<void> {
    this.whole = createHash('sha256');
    this.ask('reset');
    await Promise.all(this.answers.splice(0));
    this.taken = 0;
    this.filling = undefined;
    for (const { memory } of this.pieces.splice(0)) this.free.push(memory);
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    await this.worker.terminate();
  }

  private send(): void {
    if (!this.filling) return;
    const { memory, length } = this.filling;
    this.pieces.push(this.filling);
    this.filling = undefined;
    this.ask({ piece: memory.buffer, length });
  }

  private ask(request: CutRequest): void {
    const { promise, resolve, reject } = Promise.withResolvers<Cut[]>();
    // The next call that waits for the answer reports the error.
    promise.catch(() => {});
    this.answers.push(promise);
    if (this.failure) reject(this.failure);
    else {
      this.asked.push({ resolve, reject });
      this.worker.postMessage(request);
    }
  }

  private fail(error: Error): void {
    this.failure ??= error;
    for (const { reject } of this.asked.splice(0)) reject(this.failure);
  }

  /** Waits until at most `most` requests have no answer, and returns the chunks of the other ones. */
  private async receive(most: number): Promise<CutBytes[]> {
    this.release();
    const cuts: CutBytes[] = [];
    while (this.answers.length > most) {
      const answer = await this.answers.shift();
      cuts.push(...(answer ?? []).map((cut) => this.withBytes(cut)));
    }
    return cuts;
  }

  /** The caller has stored all chunks that it has. Their memory is free. */
  private release(): void {
    for (let first = this.pieces[0]; first && this.taken >= first.length; first = this.pieces[0]) {
      this.taken -= first.length;
      this.free.push(first.memory);
      this.pieces.shift();
    }
  }

  private withBytes(cut: Cut): CutBytes {
    const from = this.taken;
    this.taken += cut.size;
    return { ...cut, bytes: () => this.bytesAt(from, cut.size) };
  }

  private bytesAt(from: number, size: number): Buffer {
    const parts: Buffer[] = [];
    let start = from;
    let left = size;
    for (const { memory, length } of this.pieces) {
      if (start < length && left > 0) {
        const part = memory.subarray(start, Math.min(length, start + left));
        parts.push(part);
        left -= part.length;
      }
      start = Math.max(0, start - length);
    }
    return Buffer.concat(parts, size);
  }
}
