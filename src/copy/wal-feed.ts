import { errorInfo, hasCode, type LifeboatError, toLifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { baseName } from '../plan/postgres.ts';
import type { State } from '../run/state.ts';
import { watched } from '../run/watchdog.ts';
import type { ObjectRef } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import { currentLog, firstNeeded } from '../store/wal/needed.ts';
import { incompleteOf, pageKey, type WalPage, walPrefix } from '../store/wal/page.ts';
import { readWalLogs } from '../store/wal/read-log.ts';
import { basesOf, serversOf } from '../store/wal/recoverable.ts';
import type { CopiedWal, ReceiverMemory } from '../wal/receiver-state.ts';
import type { CopyPlace } from './context.ts';
import { stallLimits } from './limits.ts';
import { copyPage, copyWal, type WalCopying } from './wal.ts';

/** The time until a copy gets the new part of an open segment, milliseconds. It gets complete segments at once. */
const PARTS_MS = 60_000;
/** The most pages that wait. If there are more, the copy is looked at instead, which brings it all of them. */
const MAX_PAGES = 8;
/** The pause after a failure, milliseconds. */
const AGAIN_MS = 60_000;
/** The pause while a run is under way, which brings the copies up to date itself, milliseconds. */
const BUSY_MS = 10_000;
/** After this time, copies get WAL next to the run: a drill brings them nothing, and takes hours. Milliseconds. */
const BUSY_LIMIT_MS = 5 * 60_000;

interface WalFeedDeps {
  copies: readonly Pick<CopyPlace, 'name' | 'open'>[];
  main(): Promise<Repository>;
  /** a run is under way */
  isBusy(): Promise<boolean>;
  state: Pick<State, 'copies'>;
  memory: Pick<ReceiverMemory, 'copied' | 'saveCopied'>;
  log: Log;
  stallTimeoutMs: number;
  /** absent: a minute */
  partsMs?: number;
  /** absent: five minutes */
  busyLimitMs?: number;
}

/**
 * Brings copies the WAL between runs, while the receivers store it. WAL needs no lease, neither here nor at the
 * destination: its objects have unique names, and are never replaced. A copy that no run has made yet gets nothing.
 */
export class WalFeed {
  private readonly lines: Line[];
  private readonly over = new AbortController();

  constructor(deps: WalFeedDeps) {
    this.lines = deps.copies.map((place) => new Line(deps, place, this.over.signal));
  }

  /** Notes a page that was stored. Returns at once. */
  note(page: WalPage): void {
    for (const line of this.lines) line.note(page);
  }

  /** Never rejects. */
  async stop(): Promise<void> {
    this.over.abort();
    await Promise.all(this.lines.map((line) => line.ended()));
  }
}

/** The WAL that a copy still needs from a source. */
interface Waiting {
  /** the newest revision of each page that it lacks, in order */
  pages: Map<string, WalPage>;
  /** undefined: the copy must be looked at */
  copy: Copied | undefined;
  /** the code of the failure that lasts */
  failing?: string | undefined;
}

/** The WAL of a source that a copy has. */
interface Copied {
  /** keys of a page and of what it lists */
  there: Map<string, number | undefined>;
  /** by history of a server, the number of the first segment that a base backup needs; a later history is not in it */
  first: ReadonlyMap<string, number>;
}

/** The WAL on its way to one copy. */
class Line {
  private readonly deps: WalFeedDeps;
  private readonly place: WalFeedDeps['copies'][number];
  private readonly signal: AbortSignal;
  private readonly waiting = new Map<string, Waiting>();
  private opened: Repository | undefined;
  private timer: { at: number; id: NodeJS.Timeout } | undefined;
  private working: Promise<void> = Promise.resolve();
  /** since when a run is under way, by `performance.now()` */
  private busySince: number | undefined;

  constructor(deps: WalFeedDeps, place: WalFeedDeps['copies'][number], signal: AbortSignal) {
    this.deps = deps;
    this.place = place;
    this.signal = signal;
  }

  note(page: WalPage): void {
    const one: Waiting = this.waiting.get(page.source) ?? { pages: new Map(), copy: undefined };
    this.waiting.set(page.source, one);
    const former = one.pages.get(idOf(page));
    if (one.pages.size >= MAX_PAGES) {
      one.pages.clear();
      one.copy = undefined;
    }
    one.pages.set(idOf(page), page);
    const isLate = former !== undefined && page.segments.length === former.segments.length;
    const hasSegment = page.segments.some(({ key }) => !one.copy?.there.has(key));
    this.schedule(hasSegment && !isLate ? 0 : (this.deps.partsMs ?? PARTS_MS));
  }

  async ended(): Promise<void> {
    clearTimeout(this.timer?.id);
    await this.working;
  }

  private schedule(delayMs: number): void {
    const at = performance.now() + delayMs;
    if (this.signal.aborted || (this.timer && this.timer.at <= at)) return;
    clearTimeout(this.timer?.id);
    const id = setTimeout(() => {
      this.timer = undefined;
      this.working = this.working.then(() => this.work());
    }, delayMs);
    id.unref();
    this.timer = { at, id };
  }

  /** Brings the copy everything that waits. Never rejects. */
  private async work(): Promise<void> {
    for (const [source, one] of this.waiting) {
      if (this.signal.aborted) return;
      const pages = [...one.pages.values()];
      if (pages.length === 0) continue;
      try {
        if (await this.mustWait()) {
          this.schedule(BUSY_MS);
          return;
        }
        const error = await this.bring(source, one, pages);
        if (error) throw error;
      } catch (error) {
        if (this.signal.aborted) return;
        await this.failed(source, one, toLifeboatError(error));
      }
    }
  }

  private async mustWait(): Promise<boolean> {
    if (!(await this.deps.isBusy())) {
      this.busySince = undefined;
      return false;
    }
    this.busySince ??= performance.now();
    return performance.now() - this.busySince < (this.deps.busyLimitMs ?? BUSY_LIMIT_MS);
  }

  private async bring(source: string, one: Waiting, pages: readonly WalPage[]): Promise<LifeboatError | undefined> {
    const { deps, place } = this;
    const { made, complete } = (await deps.state.copies())[place.name] ?? {};
    if (made === undefined && complete === undefined) return undefined;
    return watched({ ...stallLimits(place.name, deps.stallTimeoutMs), signal: this.signal }, async (signal, alive) => {
      const from = await deps.main();
      this.opened ??= await place.open(from, { create: false, signal });
      const copying: WalCopying = { from, to: this.opened, report: { objects: 0, bytes: 0 }, signal, alive };
      one.copy ??= await lookAt(copying, source);
      if (!one.copy) return undefined;
      const { there, first } = one.copy;
      for (const page of pages) {
        const error = await copyPage(copying, page, { there, first: first.get(historyOf(page)) ?? 0 });
        // The writer has replaced a part or the page meanwhile, and notes the next revision.
        if (error && hasCode(error, 'OBJECT_MISSING') && one.pages.get(idOf(page)) !== page) continue;
        if (error) return error;
        if (one.pages.get(idOf(page)) === page) one.pages.delete(idOf(page));
        forget(there, page);
        await this.save(source, { page: page.page, revision: page.revision, ...reachedOf(page) });
        this.recovered(source, one);
      }
      return undefined;
    });
  }

  /** The next attempt looks at the copy again. */
  private async failed(source: string, one: Waiting, error: LifeboatError): Promise<void> {
    const { deps, place } = this;
    one.copy = undefined;
    this.opened = undefined;
    // The message may name another object in each attempt, and under load, each segment is another attempt.
    const say = one.failing === error.code ? deps.log.debug : deps.log.warn;
    one.failing = error.code;
    say('a copy lacks the newest WAL; trying again', { source, copy: place.name, ...errorInfo(error) });
    const former = (await deps.memory.copied(source).catch(() => ({}) as Record<string, CopiedWal>))[place.name];
    await this.save(source, { ...(former ?? { page: 0, revision: 0 }), error: errorInfo(error) }).catch(
      () => undefined,
    );
    this.schedule(AGAIN_MS);
  }

  private recovered(source: string, one: Waiting): void {
    if (one.failing === undefined) return;
    one.failing = undefined;
    this.deps.log.info('a copy gets the newest WAL again', { source, copy: this.place.name });
  }

  private async save(source: string, copied: CopiedWal): Promise<void> {
    const { memory } = this.deps;
    await memory.saveCopied(source, { ...(await memory.copied(source)), [this.place.name]: copied });
  }
}

const idOf = ({ systemId, page }: WalPage) => `${systemId}/${page}`;
const historyOf = ({ systemId, era }: WalPage) => `${systemId}/${era?.page ?? 1}`;

/**
 * Brings a copy the WAL that its base backups need, and returns what it has then. Returns
 * undefined if it has no base backup of the source: WAL alone is of no use.
 *
 * @throws why something was not copied
 */
async function lookAt(copying: WalCopying, source: string): Promise<Copied | undefined> {
  const { from, to, signal } = copying;
  const { snapshots } = await to.snapshots(signal);
  const manifests = snapshots.map(({ manifest }) => manifest);
  if (!serversOf(manifests).includes(source)) return undefined;
  const error = await copyWal(copying, snapshots);
  if (error) throw error;
  const there = new Map<string, number | undefined>();
  const place = { project: to.project, source };
  for await (const { key, size } of to.destination.list(walPrefix(place), { signal })) there.set(key, size);
  const bases = basesOf(manifests, baseName(source));
  const logs = await readWalLogs(from, source, signal);
  const current = currentLog(logs);
  const first = new Map(
    logs.map((log) => {
      const { systemId, era } = log.wal;
      return [`${systemId}/${era}`, firstNeeded(log, bases, log === current)];
    }),
  );
  return { there, first };
}

/** Forgets all keys but those of a page and of what it lists, so that the memory of them does not grow. */
function forget(there: Map<string, number | undefined>, page: WalPage): void {
  const named = new Set([pageKey(page, page), ...refsOf(page).map(({ key }) => key)]);
  for (const key of there.keys()) if (!named.has(key)) there.delete(key);
}

function refsOf(page: WalPage): ObjectRef[] {
  return [...page.segments, ...page.histories, ...incompleteOf(page).flatMap(({ parts }) => parts)];
}

function reachedOf({ open, segments }: WalPage): Pick<CopiedWal, 'reached'> {
  const reached = open?.reached ?? segments.at(-1)?.reached;
  return reached === undefined ? {} : { reached };
}
