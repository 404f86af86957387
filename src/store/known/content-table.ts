import * as fs from 'node:fs';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { hasErrno } from '../../base/errors.ts';
import { decodeFact, type Fact, hashOfEncoded, hashOfFact, isSameContent } from './fact.ts';
import { FactBatch } from './fact-batch.ts';
import { FactAppender, factsIn, readFact } from './fact-file.ts';
import {
  FULL,
  freshOf,
  hasRoomForCopy,
  type Opened,
  openNew,
  openWhole,
  replaceTable,
  settleTable,
} from './open-table.ts';
import { FOR_LOOKUPS, type Hash } from './slots.ts';
import { type ChangeOptions, type Choice, type IsKept, LIMITS, type Limits, type NewTable } from './table-options.ts';
import { readState, type TableState, writeState } from './table-state.ts';

/** A table is made smaller once it is so many times as large as it was then, and this much larger, bytes. */
const GROWTH = 2;
const TOLERATED_BYTES = 16 * 1024 * 1024;

/** After so many facts, other work of the process gets its turn: the lease, the health check and signals. */
const FACTS_AT_ONCE = 256;
const sync = promisify(fs.fsync);

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

  /**
   * Opens a table to add contents. Replaces one of another repository, and repairs one whose change was cut short.
   *
   * @throws the signal's reason
   */
  static async write(directory: string, of: string, options: ChangeOptions = {}): Promise<ContentTable> {
    const { limits = LIMITS } = options;
    settleTable(directory);
    const state = readState(directory);
    const isOwn = state?.of === of;
    const whole = isOwn && state.facts !== undefined ? openWhole(directory, state, limits.paging) : undefined;
    if (whole) return new ContentTable(whole, limits);
    const facts = path.join(directory, 'facts');
    return ContentTable.create({ ...options, directory, of }, isOwn ? [() => factsIn(facts)] : []);
  }

  /**
   * Makes a new table of facts, which replaces an earlier one. No index counts as covered then. Facts of a later group
   * count before those of an earlier one, and both stay.
   */
  private static async create(
    { directory, of, limits = LIMITS, signal }: NewTable,
    groups: readonly (() => Iterable<Fact>)[],
  ): Promise<ContentTable> {
    const fresh = freshOf(directory);
    fs.rmSync(fresh, { recursive: true, force: true });
    fs.mkdirSync(fresh, { recursive: true, mode: 0o700 });
    const table = new ContentTable(openNew(fresh, of, limits.paging), limits);
    try {
      table.change();
      let added = 0;
      for (const group of groups) {
        for (const fact of group()) {
          if (++added % FACTS_AT_ONCE === 0) await turn();
          signal?.throwIfAborted();
          await table.add(fact);
        }
        await table.flush();
      }
      await table.close();
    } catch (error) {
      await table.discard();
      fs.rmSync(fresh, { recursive: true, force: true });
      throw error;
    }
    replaceTable(directory);
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
   * Returns this table, or closes it and returns a new one, without the contents of packs that no snapshot names. If a
   * content is in several packs, the new table prefers one that may be used. If the disk has no room for a second
   * table, the first one stays.
   *
   * @returns `isChosen`: the table names packs that may be used now, as far as there are any
   * @throws the signal's reason
   */
  async compacted(choice: Choice): Promise<{ table: ContentTable; isChosen: boolean }> {
    const { isNamed, isUsable, mustChoose, signal } = choice;
    const { directory, state, covered } = this.opened;
    if (!mustChoose && this.size <= GROWTH * (state.base ?? 0) + TOLERATED_BYTES)
      return { table: this, isChosen: true };
    if (!hasRoomForCopy(directory, this.batch.size)) return { table: this, isChosen: !mustChoose };
    await this.close();
    const facts = path.join(directory, 'facts');
    // The last fact about a content counts. The others stay, because their packs may be usable again one day.
    const chosen = [() => factsIn(facts, (pack) => isNamed(pack) && !isUsable(pack)), () => factsIn(facts, isUsable)];
    const given = { of: state.of, limits: this.limits, signal };
    let next: ContentTable;
    try {
      next = await ContentTable.create({ ...given, directory }, chosen);
    } catch (error) {
      if (!hasErrno(error, ...FULL)) throw error;
      return { table: await ContentTable.write(directory, state.of, given), isChosen: !mustChoose };
    }
    for (const index of covered) next.cover(index);
    next.opened.state.base = next.size;
    return { table: next, isChosen: true };
  }

  /** Returns where a content is stored. */
  find(wanted: Pick<Fact, 'kind' | 'sha256' | 'size'>): Fact | undefined {
    const found = this.batch.find(wanted) ?? this.stored(hashOfFact(wanted));
    return found && isSameContent(found, wanted) ? found : undefined;
  }

  /**
   * Adds a fact, which replaces an earlier one about the same content.
   *
   * @param isKept if it returns true for the pack of an earlier fact, that fact stays, and the new one is not added.
   * Pass the same function for many facts
   * @returns a promise if the facts that wait are written now: await it before any other call
   */
  add(fact: Fact, isKept?: IsKept): Promise<void> | undefined {
    this.change();
    if (isKept !== this.isKept && this.batch.count > 0) return this.flush().then(() => this.add(fact, isKept));
    this.isKept = isKept;
    const waiting = isKept && this.batch.find(fact);
    if (waiting && isSameContent(waiting, fact) && isKept(waiting.pack)) return undefined;
    this.batch.add(fact);
    return this.batch.isFull ? this.flush() : undefined;
  }

  /** Completes all changes, and closes the files. Later calls do nothing. */
  async close(): Promise<void> {
    const { opened } = this;
    if (this.isClosed) return;
    this.isClosed = true;
    try {
      if (!this.isChanging) return;
      await this.flush();
      await sync(opened.file);
      await opened.slots.flush();
      const covered = [...opened.covered];
      writeState(opened.directory, { ...opened.state, covered, facts: opened.end, used: opened.slots.size });
    } finally {
      fs.closeSync(opened.file);
      opened.slots.close();
    }
  }

  /** Closes the files without completing anything. */
  private discard(): Promise<void> {
    this.isChanging = false;
    return this.close();
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

  private async flush(): Promise<void> {
    const { opened, batch, isKept } = this;
    const { slots } = opened;
    await slots.reserve(batch.count);
    const facts = new FactAppender(opened.file, opened.end);
    let written = 0;
    for (const bytes of batch.inOrder((hash) => slots.slotOf(hash))) {
      if (++written % FACTS_AT_ONCE === 0) await turn();
      const hash = hashOfEncoded(bytes);
      const known = isKept && this.stored(hash);
      if (known && isKept(known.pack) && isSameContent(known, decodeFact(bytes))) continue;
      slots.set(hash, facts.end);
      facts.add(bytes);
    }
    facts.flush();
    // Only now: if the disk is full, the facts stay in the batch, because their index may count as covered.
    opened.end = facts.end;
    batch.clear();
  }
}
