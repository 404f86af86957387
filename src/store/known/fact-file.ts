import { closeSync, openSync } from 'node:fs';
import { decodeFact, type Fact, lengthOfFact, MAX_FACT } from './fact.ts';
import { readAll, writeAll } from './file-io.ts';

/** A fact is usually shorter, bytes. */
const FIRST_READ = 256;
const SCAN_BYTES = 1024 * 1024;
const WRITE_BYTES = 256 * 1024;

/** Appends encoded facts to an open file. */
export class FactAppender {
  private readonly file: number;
  private readonly room = Buffer.allocUnsafeSlow(WRITE_BYTES + MAX_FACT);
  private used = 0;
  private written: number;

  /** @param at where the first fact goes, bytes */
  constructor(file: number, at: number) {
    this.file = file;
    this.written = at;
  }

  /** Where the next fact goes, bytes. */
  get end(): number {
    return this.written + this.used;
  }

  add(bytes: Buffer): void {
    this.used += bytes.copy(this.room, this.used);
    if (this.used >= WRITE_BYTES) this.flush();
  }

  flush(): void {
    writeAll(this.file, this.room.subarray(0, this.used), this.written);
    this.written += this.used;
    this.used = 0;
  }
}

/**
 * Yields all facts of a file up to the first that is damaged.
 *
 * @param isWanted returns whether to yield the facts about a pack, given by ID; absent: of all packs
 */
export function* factsIn(path: string, isWanted?: (pack: string) => boolean): Generator<Fact> {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return;
  }
  try {
    let rest: Buffer = Buffer.alloc(0);
    for (let at = 0; ; ) {
      const chunk = Buffer.allocUnsafe(SCAN_BYTES);
      const read = readAll(file, chunk, at);
      if (read === 0) return;
      at += read;
      rest = Buffer.concat([rest, chunk.subarray(0, read)]);
      while (rest.length >= lengthOfFact(rest)) {
        const fact = decodeFact(rest);
        if (!fact) return;
        if (isWanted?.(fact.pack) !== false) yield fact;
        rest = rest.subarray(lengthOfFact(rest));
      }
    }
  } finally {
    closeSync(file);
  }
}

/** Reused, because nothing refers to it after a fact is decoded. */
const firstRead = Buffer.alloc(FIRST_READ);

/** Reads the fact at an offset of an open file. Undefined if it is damaged. */
export function readFact(file: number, at: number): Fact | undefined {
  for (const bytes of [firstRead, undefined]) {
    const into = bytes ?? Buffer.alloc(MAX_FACT);
    const read = into.subarray(0, readAll(file, into, at));
    if (read.length < into.length || lengthOfFact(read) <= into.length) return decodeFact(read);
  }
  return undefined;
}
