import { createHash, type Hash } from 'node:crypto';
import { pipeline, type Readable, Transform } from 'node:stream';
import { LifeboatError } from '../../base/errors.ts';
import type { StoredTail } from '../../store/wal/page.ts';
import { Link } from './link.ts';
import { readPartial } from './received-files.ts';

/** Compares what is received again with what was stored, and keeps the hash of what is stored now. */
export class TailWatch {
  private readonly directory: string;
  private readonly segmentSize: number;
  /** what an earlier connection stored last, until the same bytes have been received again */
  private unproven: StoredTail | undefined;
  private readonly link: Link;
  private present: { name: string; to: number; hash: Hash } | undefined;

  constructor(directory: string, segmentSize: number, remembered: StoredTail | undefined) {
    this.directory = directory;
    this.segmentSize = segmentSize;
    this.unproven = remembered;
    this.link = new Link(directory, segmentSize);
  }

  /** Looks at what an earlier connection received, before it is removed. */
  look(): Promise<void> {
    return this.link.look();
  }

  /**
   * Compares a segment with the stored bytes, and with the segment before it, once.
   *
   * @param received this much of it was received by this connection, bytes
   * @throws WAL_DIVERGED
   */
  async prove(name: string, received: number): Promise<void> {
    if (await this.link.isBroken(name, received)) {
      const what = `the segment ${name} that the server sends does not follow the one before it`;
      throw new LifeboatError('WAL_DIVERGED', what);
    }
    const { unproven } = this;
    if (unproven?.name !== name || unproven.to > received) return;
    if (hexOf(await this.hashOf(name, unproven.to)) !== unproven.sha256) {
      const what = `the server sends other bytes of the segment ${name} than those that are stored`;
      throw new LifeboatError('WAL_DIVERGED', what);
    }
    this.unproven = undefined;
  }

  /** Returns the hash of a segment up to an offset, to which the caller adds what it stores next. */
  async upTo(name: string, to: number): Promise<Hash> {
    const { present } = this;
    if (present?.name === name && present.to === to) return present.hash.copy();
    return to === 0 ? createHash('sha256') : this.hashOf(name, to);
  }

  /** Notes that a segment is stored up to an offset. */
  note(name: string, to: number, hash: Hash): void {
    this.present = { name, to, hash };
    this.unproven = undefined;
  }

  private async hashOf(name: string, to: number): Promise<Hash> {
    const hash = createHash('sha256');
    const range = { from: 0, to };
    for await (const chunk of (await readPartial(this.directory, name, { size: this.segmentSize, range })) ?? [])
      hash.update(chunk as Buffer);
    return hash;
  }
}

/** Returns the end of what is stored, as a page lists it. `hash`: of the segment up to the offset */
export function tailOf(name: string, to: number, hash: Hash): StoredTail {
  return { name, to, sha256: hexOf(hash) };
}

/** Returns a stream that hashes what is read from it, and calls `alive` for each part. */
export function beating(plain: Readable, hash: Hash, alive: () => void): Readable {
  const beats = new Transform({
    transform(chunk, _, done) {
      alive();
      hash.update(chunk as Buffer);
      done(null, chunk);
    },
  });
  // The reader gets the error.
  return pipeline(plain, beats, () => {});
}

function hexOf(hash: Hash): string {
  return hash.copy().digest('hex');
}
