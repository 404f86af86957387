import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { LifeboatError } from '../../base/errors.ts';
import type { ObjectRef } from '../objects/manifest.ts';
import { deleteUnlessKept, putObject } from '../objects/objects.ts';
import type { StoredWal } from './coverage.ts';
import { Inventory } from './inventory.ts';
import { firstPage, isFull, type LogChange, nextPage } from './next-page.ts';
import {
  incompleteOf,
  pageKey,
  type StoredGap,
  type StoredHistory,
  type StoredPart,
  type StoredSegment,
  type StoredTail,
  type WalPage,
  type WalPlace,
  walPrefix,
} from './page.ts';
import { putPage, refuseOvertaken } from './put-page.ts';
import { endOf, readWalLogs, type WalLog, type WalRepository } from './read-log.ts';
import type { LogEnd } from './remembered.ts';
import { type Ancestor, listAncestors, parseAncestors, parseHistoryName } from './timelines.ts';

interface WriterOptions {
  place: WalPlace;
  segmentSize: number;
  /** id of the agent's memory */
  home: string;
  now(): Date;
  /** called after each revision of a page is stored, and no other writer was found */
  appended?(page: WalPage): void;
}

/**
 * Stores the WAL of one server, and lists it in the pages of its log. A page is written only after the objects that it
 * names are stored whole. The destination lets only one writer have each revision, so a second agent that receives the
 * WAL of the same server is found at once.
 */
export class WalWriter {
  private readonly repository: WalRepository;
  private readonly options: WriterOptions;
  private page: WalPage;
  /** of the stored revision of `page`; null: none is stored yet */
  private hash: string | null;
  /** what the newest page replaces, until no other writer was found after it */
  private replaced: { page: WalPage; hash: string | null } | undefined;
  /** the history files of the present history, by name: each new page lists them, so that no older one is needed */
  private readonly histories: Map<string, StoredHistory>;
  /** where the present history begins, if it is not the first one */
  begun: StoredGap | undefined;
  /** what the log lists of the present history */
  inventory: Inventory;
  /** the newest pages of all servers of the source, as they were found */
  readonly opened: readonly Pick<WalLog, 'place' | 'newest'>[];
  /** the memory of the agent that had last written the log when it was opened; undefined for a new log */
  readonly home: string | undefined;
  /** when that agent had last written it, ISO time by its clock */
  readonly at: string | undefined;
  /** why the newest page that was found cannot be used */
  readonly unusable: LifeboatError | undefined;

  private constructor(repository: WalRepository, options: WriterOptions, logs: readonly WalLog[]) {
    const { systemId } = options.place;
    const own = logs.findLast(({ place }) => place.systemId === systemId);
    this.opened = logs.map(({ place, newest }) => ({ place, newest }));
    this.repository = repository;
    this.options = options;
    const last = own?.last?.page.page === own?.newest.page ? own?.last : undefined;
    this.unusable = last ? undefined : own?.problems.findLast(({ error }) => error.code !== 'CHAIN_BROKEN')?.error;
    this.inventory = new Inventory(own?.wal ?? this.nothing);
    this.home = last?.page.home;
    this.at = last?.page.at;
    this.begun = last?.page.era ? own?.wal.gaps[0] : undefined;
    this.histories = new Map(own?.histories);
    this.page = last?.page ?? firstPage(options);
    this.hash = last?.hash ?? null;
    if (own && !last) this.beginHistory(own.newest.page + 1, null);
  }

  /**
   * Opens the log of a server, and continues with its newest page. If that one cannot be used, such as one from before
   * a signing key was set, the next page begins anew. Throws like {@link readWalLogs}.
   */
  static async open(repository: WalRepository, options: WriterOptions, signal?: AbortSignal): Promise<WalWriter> {
    return new WalWriter(repository, options, await readWalLogs(repository, options.place.source, signal));
  }

  /**
   * Begins another history of the server, which went back to older data: what is stored from now on follows nothing
   * that is stored. Throws like {@link append}.
   *
   * Another agent may still write the former history, such as one on the machine of which this one is a clone. Both
   * would go on, and later base backups of that one would count as those of this history. So this one first takes the
   * next revision of the last page.
   *
   * @param gap why it begins, and where
   */
  async beginAnew(gap: StoredGap): Promise<void> {
    const isNew = this.hash === null && this.page.era?.page === this.page.page;
    if (!isNew) {
      if (this.hash !== null && !isFull(this.page)) await this.append({});
      this.beginHistory(this.page.page + 1, this.hash);
    }
    await this.append({ gaps: [gap] });
    this.begun = gap;
  }

  private beginHistory(page: number, previous: string | null): void {
    const era = { page, since: this.options.now().toISOString() };
    this.page = { ...firstPage(this.options, era), page, previous };
    this.hash = null;
    this.histories.clear();
    this.inventory = new Inventory(this.nothing);
  }

  private get nothing(): StoredWal {
    const { segmentSize, place } = this.options;
    return { systemId: place.systemId, segmentSize, segments: [], partials: [], histories: new Map(), gaps: [] };
  }

  /** The newest page, as the agent remembers it; undefined if none is stored yet. */
  get end(): LogEnd | undefined {
    const { page, revision } = this.page;
    return this.hash === null ? undefined : { destination: this.repository.destination.name, page, revision };
  }

  /** Since when the present history of the server is written, ISO time; undefined for the first one. */
  get since(): string | undefined {
    return this.page.era?.since;
  }

  /** The number of the first page of the present history of the server. */
  get era(): number {
    return this.page.era?.page ?? 1;
  }

  /** The last bytes that are stored of the present history; undefined: nothing is, or nobody has noted it. */
  get tail(): StoredTail | undefined {
    return this.page.tail;
  }

  /** The open segment, as the log lists it. */
  get open(): WalPage['open'] {
    return this.page.open;
  }

  /** Stores a complete segment. */
  async putSegment(name: string, plain: Readable, signal: AbortSignal): Promise<StoredSegment> {
    return { name, ...(await this.put(`${name.slice(0, 8)}/${name}`, plain, signal)) };
  }

  /** Stores bytes of the open segment, from one offset in it to another. */
  async putPart(
    name: string,
    { from, to }: Pick<StoredPart, 'from' | 'to'>,
    plain: Readable,
    signal: AbortSignal,
  ): Promise<StoredPart> {
    const offset = from.toString(16).toUpperCase().padStart(8, '0');
    return { from, to, ...(await this.put(`${name.slice(0, 8)}/${name}.${offset}`, plain, signal)) };
  }

  async putHistory(
    name: string,
    ancestors: readonly Ancestor[],
    plain: Readable,
    signal: AbortSignal,
  ): Promise<StoredHistory> {
    return {
      name,
      ancestors: listAncestors(ancestors),
      ...(await this.put(`${name.slice(0, 8)}/${name}`, plain, signal)),
    };
  }

  /**
   * Writes the next revision of the page, or the first one of the next page. Then removes what it replaces: the former
   * revision, and the parts of a segment that is complete now.
   *
   * @param onStored called once the page is stored, also if a later step fails: nobody stores the change again
   * @throws LOCKED if another agent writes this log; DEST_EXISTS if this agent has written another revision than this
   *   object knows: the log must be opened again
   */
  async append(change: LogChange, onStored = () => {}): Promise<void> {
    const before = { page: this.page, hash: this.hash };
    const next = nextPage(before, change, { ...this.options, known: [...this.histories.values()] });
    this.hash = await putPage(this.repository, next);
    this.page = next;
    this.note(change);
    this.replaced = before;
    onStored();
    await this.announce();
  }

  /** Ends the last {@link append}, if it failed after its page was stored. Throws like it. */
  async announce(): Promise<void> {
    const { replaced } = this;
    if (!replaced) return;
    await refuseOvertaken(this.repository, this.page);
    this.replaced = undefined;
    this.options.appended?.(this.page);
    await this.removeReplaced(replaced);
  }

  private note({ segments = [], histories = [], open, gaps = [] }: LogChange): void {
    const { inventory } = this;
    for (const one of segments) inventory.addSegment(one);
    for (const one of histories) {
      inventory.addHistory(parseHistoryName(one.name) as number, parseAncestors(one.ancestors));
      this.histories.set(one.name, one);
    }
    for (const gap of gaps) inventory.addGap(gap);
    if (open) inventory.addPartial({ name: open.name, to: endOf(open), reached: open.reached });
  }

  private async removeReplaced({ page, hash }: { page: WalPage; hash: string | null }): Promise<void> {
    const { destination } = this.repository;
    const kept = new Set(incompleteOf(this.page).flatMap(({ parts }) => parts.map(({ key }) => key)));
    const former = page.page === this.page.page ? incompleteOf(page) : page.open ? [page.open] : [];
    const parts = former.flatMap((one) => one.parts).filter(({ key }) => !kept.has(key));
    const isSamePage = page.page === this.page.page && hash !== null;
    const keys = [...parts.map(({ key }) => key), ...(isSamePage ? [pageKey(this.options.place, page)] : [])];
    // Nothing depends on these deletions: readers take the newest revision, and prune removes what no page names.
    for (const key of keys) await deleteUnlessKept(destination, key).catch(() => false);
  }

  private put(name: string, plain: Readable, signal: AbortSignal): Promise<ObjectRef> {
    const { place } = this.options;
    const { destination, keys } = this.repository;
    // A put whose answer was lost may have stored the object, so every attempt has a name of its own.
    const key = `${walPrefix(place)}${place.systemId}/${name}-${randomBytes(3).toString('hex')}`;
    return putObject(destination, key, plain, { compress: true, keys, signal });
  }
}
