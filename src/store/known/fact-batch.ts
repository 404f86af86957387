import { decodeFact, encodeFact, type Fact, type FactKind, hashOfEncoded, lengthOfFact } from './fact.ts';
import { HashTable } from './hash-table.ts';
import type { Hash } from './slots.ts';

/** A batch is full with so many contents, or so many bytes of facts. It takes 50 MiB at most. */
export const MAX_FACTS = 256 * 1024;
const MAX_BYTES = 24 * 1024 * 1024;
const START_BYTES = 64 * 1024;
/** More than there are facts in a batch. A place and such a number fit into the 53 bits of an exact number. */
const NUMBERS = 2 * MAX_FACTS;

/** Facts that are not in a table yet, by their contents. */
export class FactBatch {
  private bytes = Buffer.alloc(0);
  private end = 0;
  private readonly tables: Record<FactKind, HashTable> = { file: new HashTable(), part: new HashTable() };
  private readonly most: number;

  /** @param most number of different contents with which the batch is full, at most {@link MAX_FACTS} */
  constructor(most: number) {
    this.most = most;
  }

  /** Length of the facts, bytes. */
  get size(): number {
    return this.end;
  }

  /** Number of different contents. */
  get count(): number {
    return this.tables.file.size + this.tables.part.size;
  }

  get isFull(): boolean {
    return this.count >= this.most || this.end >= MAX_BYTES;
  }

  /** Adds a fact, which replaces an earlier one about the same content. */
  add(fact: Fact): void {
    const encoded = encodeFact(fact);
    const end = this.end + encoded.length;
    if (end > this.bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(START_BYTES, 2 * this.bytes.length, end));
      this.bytes.copy(grown, 0, 0, this.end);
      this.bytes = grown;
    }
    encoded.copy(this.bytes, this.end);
    this.tables[fact.kind].set(fact.sha256, this.end);
    this.end = end;
  }

  find({ kind, sha256 }: Pick<Fact, 'kind' | 'sha256'>): Fact | undefined {
    const at = this.tables[kind].get(sha256);
    const found = at === undefined ? undefined : decodeFact(this.bytes.subarray(at, this.end));
    return found?.sha256 === sha256 ? found : undefined;
  }

  /**
   * Yields the encoded facts, without those that were replaced, in the order of `placeOf`: a number below 2^32 for each
   * hash.
   */
  *inOrder(placeOf: (hash: Hash) => number): Generator<Buffer> {
    const starts = new Float64Array(this.count);
    const order = new Float64Array(starts.length);
    let n = 0;
    for (const table of Object.values(this.tables)) {
      for (const at of table.all()) {
        starts[n] = at;
        order[n] = placeOf(hashOfEncoded(this.bytes.subarray(at))) * NUMBERS + n;
        n++;
      }
    }
    for (const one of order.sort()) {
      const rest = this.bytes.subarray(starts[one % NUMBERS] as number);
      yield rest.subarray(0, lengthOfFact(rest));
    }
  }

  /** Removes all facts, and keeps the memory. */
  clear(): void {
    this.end = 0;
    for (const table of Object.values(this.tables)) table.clear();
  }
}
