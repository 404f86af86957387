import * as fs from 'node:fs';
import path from 'node:path';
import { decodeFact, encodeFact, type Fact, hashOfFact, lengthOfFact, MAX_FACT } from './fact.ts';
import { Slots } from './slots.ts';
import { readState, type TableState, writeState } from './table-state.ts';

/** A fact is usually shorter, bytes. */
const FIRST_READ = 256;
const FLUSH_BYTES = 256 * 1024;
const SCAN_BYTES = 1024 * 1024;
/** A table is made smaller once it is so many times as large as it was then, and this much larger, bytes. */
const GROWTH = 2;
const TOLERATED_BYTES = 16 * 1024 * 1024;

/** The parts of an open table. */
interface Opened {
  directory: string;
  file: number;
  slots: Slots;
  state: TableState;
  /** where the next fact goes, bytes */
  end: number;
}

/**
 * Where contents are stored, for all snapshots of a project: a file of facts, and a hash table of their offsets. A fact
 * stays true forever, because packs never change, but its pack may be gone: the caller checks that a kept snapshot
 * names it. A fact that is damaged, or about another content, is not returned. Memory does not grow with the table.
 */
export class ContentTable {
  private readonly opened: Opened;
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  private isChanging = false;
  private isClosed = false;

  private constructor(opened: Opened) {
    this.opened = opened;
  }

  /** Opens a table to look contents up. Undefined if there is none for `of`, or its last change was not completed. */
  static read(directory: string, of: string): ContentTable | undefined {
    const state = readState(directory);
    if (state?.of !== of || state.facts === undefined) return undefined;
    const opened = openWhole(directory, state, 'r');
    return opened && new ContentTable(opened);
  }

  /** Opens a table to add contents. Replaces one of another repository, and repairs one whose change was cut short. */
  static write(directory: string, of: string): ContentTable {
    const state = readState(directory);
    const whole = state?.of === of && state.facts !== undefined ? openWhole(directory, state, 'r+') : undefined;
    if (whole) return new ContentTable(whole);
    return ContentTable.create(directory, of, state?.of === of ? factsIn(directory) : []);
  }

  /** Makes a new table of some facts, which replaces an earlier one. No index counts as covered then. */
  static create(directory: string, of: string, facts: Iterable<Fact>): ContentTable {
    const fresh = `${directory}.new`;
    fs.rmSync(fresh, { recursive: true, force: true });
    fs.mkdirSync(fresh, { recursive: true, mode: 0o700 });
    const file = fs.openSync(path.join(fresh, 'facts'), 'w+', 0o600);
    const slots = Slots.create(path.join(fresh, 'slots'));
    const table = new ContentTable({ directory: fresh, file, slots, state: { of, used: 0, covered: [] }, end: 0 });
    try {
      table.change();
      for (const fact of facts) table.add(fact);
      table.close();
    } catch (error) {
      table.discard();
      fs.rmSync(fresh, { recursive: true, force: true });
      throw error;
    }
    fs.rmSync(directory, { recursive: true, force: true });
    fs.renameSync(fresh, directory);
    const opened = openWhole(directory, readState(directory) as TableState, 'r+');
    if (!opened) throw new Error(`${directory} cannot be opened`);
    return new ContentTable(opened);
  }

  /** Length of all facts, bytes. */
  get size(): number {
    return this.opened.end + this.pendingBytes;
  }

  isCovered(index: string): boolean {
    return this.opened.state.covered.includes(index);
  }

  /** Records that all lines of a stored index are in the table. */
  cover(index: string): void {
    this.change();
    if (!this.isCovered(index)) this.opened.state.covered.push(index);
  }

  /** Forgets the covered indexes that no snapshot names any more. */
  coverOnly(indexes: ReadonlySet<string>): void {
    const { state } = this.opened;
    if (state.covered.every((one) => indexes.has(one))) return;
    this.change();
    state.covered = state.covered.filter((one) => indexes.has(one));
  }

  /**
   * Returns this table, or closes it and returns a smaller one without the contents of packs that are not in use.
   *
   * @param isUsed returns whether a pack, given by ID, is in use
   */
  compacted(isUsed: (pack: string) => boolean): ContentTable {
    const { directory, state } = this.opened;
    if (this.size <= GROWTH * (state.base ?? 0) + TOLERATED_BYTES) return this;
    this.close();
    function* used() {
      for (const fact of factsIn(directory)) if (isUsed(fact.pack)) yield fact;
    }
    const smaller = ContentTable.create(directory, state.of, used());
    for (const index of state.covered) smaller.cover(index);
    smaller.opened.state.base = smaller.size;
    return smaller;
  }

  /** Returns where a content is stored. */
  find(wanted: Pick<Fact, 'kind' | 'sha256' | 'size'>): Fact | undefined {
    const at = this.opened.slots.get(hashOfFact(wanted));
    if (at === undefined || at >= this.size) return undefined;
    if (at >= this.opened.end) this.flush();
    const found = readFact(this.opened.file, at);
    const isSame = found?.kind === wanted.kind && found.sha256 === wanted.sha256 && found.size === wanted.size;
    return isSame ? found : undefined;
  }

  /** Adds a fact, which replaces an earlier one about the same content. */
  add(fact: Fact): void {
    this.change();
    this.opened.slots.set(hashOfFact(fact), this.size);
    const bytes = encodeFact(fact);
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
    if (this.pendingBytes >= FLUSH_BYTES) this.flush();
  }

  /** Completes all changes, and closes the files. Later calls do nothing. */
  close(): void {
    const { opened } = this;
    if (this.isClosed) return;
    this.isClosed = true;
    try {
      if (!this.isChanging) return;
      this.flush();
      fs.fsyncSync(opened.file);
      opened.slots.flush();
      const state = { ...opened.state, facts: opened.end, used: opened.slots.size };
      writeState(opened.directory, state);
    } finally {
      fs.closeSync(opened.file);
      opened.slots.close();
    }
  }

  /** Closes the files without completing anything. */
  private discard(): void {
    this.isChanging = false;
    this.close();
  }

  /** Marks the table on disk as being changed. If this process dies, the next one makes the slots from the facts. */
  private change(): void {
    if (this.isChanging) return;
    const { directory, state } = this.opened;
    const { facts: _, ...rest } = state;
    writeState(directory, rest);
    this.isChanging = true;
  }

  private flush(): void {
    const { opened } = this;
    const data = Buffer.concat(this.pending);
    for (let done = 0; done < data.length; )
      done += fs.writeSync(opened.file, data, done, data.length - done, opened.end + done);
    // Only now: if the disk is full, the facts stay pending, because an index that they come from may count as covered.
    this.pending = [];
    this.pendingBytes = 0;
    opened.end += data.length;
  }
}

/** Opens the files of a table that was closed. Undefined if they do not fit together. */
function openWhole(directory: string, state: TableState, flags: 'r' | 'r+'): Opened | undefined {
  let slots: Slots | undefined;
  let file: number | undefined;
  try {
    slots = Slots.open(path.join(directory, 'slots'), state.used, flags);
    if (!slots) return undefined;
    file = fs.openSync(path.join(directory, 'facts'), flags);
    const end = state.facts ?? 0;
    if (fs.fstatSync(file).size >= end) return { directory, file, slots, state, end };
  } catch {
    // It is made again.
  }
  if (file !== undefined) fs.closeSync(file);
  slots?.close();
  return undefined;
}

/** Yields all facts of a table up to the first that is damaged. */
function* factsIn(directory: string): Generator<Fact> {
  let file: number;
  try {
    file = fs.openSync(path.join(directory, 'facts'), 'r');
  } catch {
    return;
  }
  try {
    let rest: Buffer = Buffer.alloc(0);
    for (let at = 0; ; ) {
      const chunk = Buffer.allocUnsafe(SCAN_BYTES);
      const read = fs.readSync(file, chunk, 0, SCAN_BYTES, at);
      if (read === 0) return;
      at += read;
      rest = Buffer.concat([rest, chunk.subarray(0, read)]);
      while (rest.length >= lengthOfFact(rest)) {
        const fact = decodeFact(rest);
        if (!fact) return;
        yield fact;
        rest = rest.subarray(lengthOfFact(rest));
      }
    }
  } finally {
    fs.closeSync(file);
  }
}

/** Reused, because nothing refers to it after a fact is decoded. */
const firstRead = Buffer.alloc(FIRST_READ);

function readFact(file: number, at: number): Fact | undefined {
  for (const length of [FIRST_READ, MAX_FACT]) {
    const bytes = length === FIRST_READ ? firstRead : Buffer.alloc(length);
    const read = bytes.subarray(0, fs.readSync(file, bytes, 0, length, at));
    if (read.length < length || lengthOfFact(read) <= length) return decodeFact(read);
  }
  return undefined;
}
