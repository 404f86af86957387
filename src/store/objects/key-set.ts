const START_SLOTS = 1024;
const MAX_LOAD = 0.7;

/** A set of groups of 32-bit words, without an object for each member. The first word of a member is never 0. */
export class WordSet {
  private readonly width: number;
  private slots: Uint32Array;
  private count = 0;

  /** `width`: the number of words of a member, at least 2. */
  constructor(width: number) {
    this.width = width;
    this.slots = new Uint32Array(START_SLOTS * width);
  }

  /** Adds a member. Returns false if the set had it already. */
  add(words: Uint32Array): boolean {
    const at = this.find(words);
    if (this.slots[at] !== 0) return false;
    this.slots.set(words, at);
    if (++this.count >= (this.slots.length / this.width) * MAX_LOAD) this.grow();
    return true;
  }

  has(words: Uint32Array): boolean {
    return this.slots[this.find(words)] !== 0;
  }

  clear(): void {
    this.count = 0;
    this.slots = new Uint32Array(START_SLOTS * this.width);
  }

  get size(): number {
    return this.count;
  }

  /** Returns where the slot of a member begins, or the free slot for it. */
  private find(words: Uint32Array): number {
    const { slots, width } = this;
    const mask = slots.length / width - 1;
    let slot = (words[1] as number) & mask;
    while (slots[slot * width] !== 0 && !this.isAt(slot * width, words)) slot = (slot + 1) & mask;
    return slot * width;
  }

  private isAt(at: number, words: Uint32Array): boolean {
    for (let i = 0; i < this.width; i++) if (this.slots[at + i] !== words[i]) return false;
    return true;
  }

  private grow(): void {
    const { slots: old, width } = this;
    this.slots = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += width) {
      if (old[at] === 0) continue;
      const words = old.subarray(at, at + width);
      this.slots.set(words, this.find(words));
    }
  }
}

/**
 * A set of texts that stores only a 128-bit hash of each: a million take 32 to 64 MiB, however long they are. It never
 * forgets a text. It may claim to have a text that somebody chose for that, so use it only where that does no harm.
 */
export class KeySet {
  private readonly set = new WordSet(4);
  private readonly words = new Uint32Array(4);

  add(key: string): void {
    hashText(key, this.words);
    this.set.add(this.words);
  }

  has(key: string): boolean {
    hashText(key, this.words);
    return this.set.has(this.words);
  }

  get size(): number {
    return this.set.size;
  }
}

/** Which objects a destination has, with their sizes; see {@link KeySet}. */
export class StoredSizes {
  private readonly set = new KeySet();

  add({ key, size }: { key: string; size: number | undefined }): void {
    this.set.add(`${size} ${key}`);
  }

  /** Returns whether the object is there with this size. */
  has({ key, size }: { key: string; size: number }): boolean {
    return this.set.has(`${size} ${key}`);
  }
}

/** Hashes a text to 4 words: each character changes all of them, each with another multiplier. */
function hashText(text: string, words: Uint32Array): void {
  let [a, b, c, d] = [0x9e3779b1, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 0x01000193);
    b = Math.imul(b + code, 0x5bd1e995) ^ (b >>> 15);
    c = Math.imul(c ^ (code << 8), 0xcc9e2d51) + (c >>> 13);
    d = Math.imul(d + (code << 16) + i, 0x1b873593) ^ (d >>> 16);
  }
  words[0] = mix(a ^ (d >>> 11)) || 1;
  words[1] = mix(b ^ (a >>> 7));
  words[2] = mix(c ^ (b >>> 9));
  words[3] = mix(d ^ (c >>> 5));
}

/** Spreads each bit of a word over all others. */
function mix(word: number): number {
  let h = Math.imul(word ^ (word >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}
