import * as fs from 'node:fs';
import path from 'node:path';
import { decodeFact, type Fact, hashOfEncoded, hashOfFact } from './fact.ts';
import { FactBatch, MAX_FACTS } from './fact-batch.ts';
import { FactAppender, factsIn, readFact } from './fact-file.ts';
import { FOR_CHANGES, FOR_LOOKUPS, type Hash, type Paging, Slots } from './slots.ts';
import { readState, type TableState, writeState } from './table-state.ts';

/** A table is made smaller once it is so many times as large as it was then, and this much larger, bytes. */
const GROWTH = 2;
const TOLERATED_BYTES = 16 * 1024 * 1024;

/** Bounds of the memory that a change takes. */
interface Limits {
  /** the most facts that wait in memory */
  facts: number;
  paging: Paging;
}
const LIMITS: Limits = { facts: MAX_FACTS, paging: FOR_CHANGES };

/** Returns whether the table may go on naming a pack, given by ID, for a content that is added again. */
type IsKept = (pack: string) => boolean;

/** The parts of an open table. */
interface Opened {
  directory: string;
  file: number;
  slots: Slots;
  state: Omit<TableState, 'covered'>;
  /** SHA-256 of the stored indexes whose lines are all in the table */
  covered: Set<string>;
  /** where the next fact goes, bytes */
  end: number;
}

interface NewTable {
  directory: string;
  of: string;
  limits: Limits;
}

/**
 * Where contents are stored, for all snapshots of a project: a file of facts, and a hash table of their offsets. A fact
 * stays true forever, because packs never change, but its pack may be gone: the caller checks that a kept snapshot
 * names it. A fact that is damaged, or about another content, is not returned.
 *
 * Memory does not grow with the table. Facts that are added wait in a batch. Their slots are then changed in one pass
 * through the file, because a million changes all over it would each read and write a page.
 */
export class ContentTable {
  private readonly opened: Opened;
  private readonly limits: Limits;
  private readonly batch: FactBatch;
  private isKept: IsKept | undefined;
  private isChanging = false;
  private isClosed = false;

  private constructor(opened: Opened, limits = LIMITS) {
    this.opened = opened;
    this.limits = limits;
    this.batch = new FactBatch(limits.facts);
  }

  /** Opens a table to look contents up. Undefined if there is none for `of`, or its last change was not completed. */
  static read(directory: string, of: string): ContentTable | undefined {
    const state = readState(directory);
    if (state?.of !== of || state.facts === undefined) return undefined;
    const opened = openWhole(directory, state, FOR_LOOKUPS);
    return opened && new ContentTable(opened);
  }

  /** Opens a table to add contents. Replaces one of another repository, and repairs one whose change was cut short. */
  static write(directory: string, of: string, limits = LIMITS): ContentTable {
    const state = readState(directory);
    const isOwn = state?.of === of;
    const whole = isOwn && state.facts !== undefined ? openWhole(directory, state, limits.paging) : undefined;
    if (whole) return new ContentTable(whole, limits);
    return ContentTable.create({ directory, of, limits }, isOwn ? factsIn(path.join(directory, 'facts')) : []);
  }

  /** Makes a new table of some facts, which replaces an earlier one. No index counts as covered then. */
  private static create({ directory, of, limits }: NewTable, facts: Iterable<Fact>): ContentTable {
    const fresh = `${directory}.new`;
    fs.rmSync(fresh, { recursive: true, force: true });
    fs.mkdirSync(fresh, { recursive: true, mode: 0o700 });
    const table = new ContentTable(openNew({ directory: fresh, of, limits }), limits);
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
    const opened = openWhole(directory, readState(directory) as TableState, limits.paging);
    if (!opened) throw new Error(`${directory} cannot be opened`);
    return new ContentTable(opened, limits);
  }

  /** Length of all facts, bytes. */
  get size(): number {
    return this.opened.end + this.batch.size;
  }

  isCovered(index: string): boolean {
    return this.opened.covered.has(index);
  }

  /** Records that all lines of a stored index are in the table. */
  cover(index: string): void {
    this.change();
    this.opened.covered.add(index);
  }

  /** Forgets the covered indexes that no snapshot names any more. */
  coverOnly(indexes: ReadonlySet<string>): void {
    const { covered } = this.opened;
    for (const one of covered) {
      if (indexes.has(one)) continue;
      this.change();
      covered.delete(one);
    }
  }

  /**
   * Returns this table, or closes it and returns a smaller one without the contents of packs that are not in use.
   *
   * @param isUsed returns whether a pack, given by ID, is in use
   */
  compacted(isUsed: (pack: string) => boolean): ContentTable {
    const { directory, state, covered } = this.opened;
    if (this.size <= GROWTH * (state.base ?? 0) + TOLERATED_BYTES) return this;
    this.close();
    function* used() {
      for (const fact of factsIn(path.join(directory, 'facts'))) if (isUsed(fact.pack)) yield fact;
    }
    const smaller = ContentTable.create({ directory, of: state.of, limits: this.limits }, used());
    for (const index of covered) smaller.cover(index);
    smaller.opened.state.base = smaller.size;
    return smaller;
  }

  /** Returns where a content is stored. */
  find(wanted: Pick<Fact, 'kind' | 'sha256' | 'size'>): Fact | undefined {
    const found = this.batch.find(wanted) ?? this.stored(hashOfFact(wanted));
    return found && isSame(found, wanted) ? found : undefined;
  }

  /**
   * Adds a fact, which replaces an earlier one about the same content.
   *
   * @param isKept if it returns true for the pack of an earlier fact, that fact stays, and the new one is not added.
   * Pass the same function for many facts
   */
  add(fact: Fact, isKept?: IsKept): void {
    this.change();
    if (isKept !== this.isKept) this.flush();
    this.isKept = isKept;
    const waiting = isKept && this.batch.find(fact);
    if (waiting && isSame(waiting, fact) && isKept(waiting.pack)) return;
    this.batch.add(fact);
    if (this.batch.isFull) this.flush();
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
      const covered = [...opened.covered];
      writeState(opened.directory, { ...opened.state, covered, facts: opened.end, used: opened.slots.size });
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
    const { directory, state, covered } = this.opened;
    const { facts: _, ...rest } = state;
    writeState(directory, { ...rest, covered: [...covered] });
    this.isChanging = true;
  }

  /** Returns the fact in the file that a slot refers to, which may be about another content. */
  private stored(hash: Hash): Fact | undefined {
    const { slots, file, end } = this.opened;
    const at = slots.get(hash);
    return at === undefined || at >= end ? undefined : readFact(file, at);
  }

  private flush(): void {
    const { opened, batch, isKept } = this;
    const { slots } = opened;
    slots.reserve(batch.count);
    const facts = new FactAppender(opened.file, opened.end);
    for (const bytes of batch.inOrder((hash) => slots.slotOf(hash))) {
      const hash = hashOfEncoded(bytes);
      const known = isKept && this.stored(hash);
      if (known && isKept(known.pack) && isSame(known, decodeFact(bytes))) continue;
      slots.set(hash, facts.end);
      facts.add(bytes);
    }
    facts.flush();
    // Only now: if the disk is full, the facts stay in the batch, because their index may count as covered.
    opened.end = facts.end;
    batch.clear();
  }
}

function isSame(fact: Fact, wanted: Pick<Fact, 'kind' | 'sha256' | 'size'> | undefined): boolean {
  return fact.kind === wanted?.kind && fact.sha256 === wanted.sha256 && fact.size === wanted.size;
}

/** Creates the files of an empty table. */
function openNew({ directory, of, limits }: NewTable): Opened {
  const file = fs.openSync(path.join(directory, 'facts'), 'w+', 0o600);
  try {
    const slots = Slots.create(path.join(directory, 'slots'), limits.paging);
    return { directory, file, slots, state: { of, used: 0 }, covered: new Set(), end: 0 };
  } catch (error) {
    fs.closeSync(file);
    throw error;
  }
}

/** Opens the files of a table that was closed. Undefined if they do not fit together. */
function openWhole(directory: string, state: TableState, paging: Paging): Opened | undefined {
  let slots: Slots | undefined;
  let file: number | undefined;
  try {
    slots = Slots.open(path.join(directory, 'slots'), state.used, paging);
    if (!slots) return undefined;
    file = fs.openSync(path.join(directory, 'facts'), paging === FOR_LOOKUPS ? 'r' : 'r+');
    const end = state.facts ?? 0;
    if (fs.fstatSync(file).size >= end) return { directory, file, slots, state, covered: new Set(state.covered), end };
  } catch {
    // It is made again.
  }
  if (file !== undefined) fs.closeSync(file);
  slots?.close();
  return undefined;
}
