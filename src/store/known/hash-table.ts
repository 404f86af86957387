const START_SLOTS = 1024;
const MAX_LOAD = 0.7;

/**
 * A hash table from content (SHA-256) to the offset of a line with that content. A slot takes 16 bytes, and a million
 * contents take about 32 MiB. Only 64 bits of each hash are stored, so a hit must be checked against the line itself.
 */
export class HashTable {
  private high = new Uint32Array(START_SLOTS);
  private low = new Uint32Array(START_SLOTS);
  /** 0 for a free slot, otherwise the value + 1 */
  private values = new Float64Array(START_SLOTS);
  private count = 0;

  /** Adds content, or replaces its value. `value` is an integer from 0. */
  set(sha256: string, value: number): void {
    if (this.count >= this.values.length * MAX_LOAD) this.grow();
    const [high, low] = halves(sha256);
    const slot = this.find(high, low);
    if (this.values[slot] === 0) this.count++;
    this.put(slot, high, low, value + 1);
  }

  get(sha256: string): number | undefined {
    const [high, low] = halves(sha256);
    const value = this.values[this.find(high, low)]!;
    return value === 0 ? undefined : value - 1;
  }

  get size(): number {
    return this.count;
  }

  /** Removes all content, and keeps the memory. */
  clear(): void {
    this.values.fill(0);
    this.count = 0;
  }

  /** Yields all values, in no order. */
  *all(): Generator<number> {
    for (const value of this.values) if (value !== 0) yield value - 1;
  }

  private find(high: number, low: number): number {
    const mask = this.values.length - 1;
    let slot = low & mask;
    while (this.values[slot] !== 0 && (this.high[slot] !== high || this.low[slot] !== low)) slot = (slot + 1) & mask;
    return slot;
  }

  private put(slot: number, high: number, low: number, stored: number): void {
    this.high[slot] = high;
    this.low[slot] = low;
    this.values[slot] = stored;
  }

  private grow(): void {
    const { high, low, values } = this;
    const slots = values.length * 2;
    this.high = new Uint32Array(slots);
    this.low = new Uint32Array(slots);
    this.values = new Float64Array(slots);
    for (let i = 0; i < values.length; i++) {
      if (values[i] !== 0) this.put(this.find(high[i]!, low[i]!), high[i]!, low[i]!, values[i]!);
    }
  }
}

function halves(sha256: string): [number, number] {
  return [Number.parseInt(sha256.slice(0, 8), 16), Number.parseInt(sha256.slice(8, 16), 16)];
}
