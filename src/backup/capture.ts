import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
import { isPackKey } from '../destinations/keys.ts';
import type { PlannedSource } from '../plan/model.ts';
import type { Dispatcher } from '../report/dispatch.ts';
import type { Progress } from '../report/events.ts';
import { storesPast } from '../report/trigger.ts';
import { asideWarnings } from '../run/aside-warnings.ts';
import { lastGoodOf, lastStoredOf } from '../run/history.ts';
import { journalObjects } from '../run/journal.ts';
import { type RestoredSource, readRestored } from '../run/restored.ts';
import { spoolError } from '../run/spool.ts';
import type { State } from '../run/state.ts';
import type { CapturedTree, Source } from '../sources/source.ts';
import { measureUse, type RenewalRule } from '../store/content/repack.ts';
import type { StoredTree } from '../store/content/stored-tree.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { objectsOfSource } from '../store/repository/source-objects.ts';
import type { PreviousTree, StoreJob } from '../trees/job.ts';
import type { TreeStore } from '../trees/runner.ts';
import { watchHistory } from './base-history.ts';
import type { Capturer, RunContext, SharedIndex } from './context.ts';
import { type Captured, failedOutcome, type StoredSource, storedOutcome } from './outcome.ts';
import { factsReader, previousTree } from './previous-tree.ts';
import { emptyError, judgeEmpty } from './rules.ts';
import { sameDocuments } from './same-documents.ts';
import { findShrinkage, formerSnapshots } from './shrinkage.ts';

interface CapturerDeps {
  state: State;
  /** directory of this run inside the spool */
  spool: string;
  dispatcher: Dispatcher;
  treeStore: TreeStore;
  /** removes a directory of the run; see `clearDirectory` in spool.ts. Never rejects */
  clear(directory: string, runId: string): Promise<void>;
  /** a drop in size or rows by more than this share of the last good snapshot triggers a warning: 0 to 1 */
  shrinkageShare: number;
  /** when the content of packs is stored again */
  renewal: RenewalRule;
  makeSource(planned: PlannedSource, context: RunContext): Source;
  /** time zone of the schedules */
  zone: string;
  now(): Date;
}

/** Creates the capturer of a run, which takes one source after the other. */
export function createCapturer(deps: CapturerDeps, context: RunContext): Capturer {
  return new SourceCapturer(deps, context);
}

/** A source that is being captured. `directory` is its own directory in the spool. */
interface Task {
  planned: PlannedSource;
  /** from `performance.now()`, which clock changes do not affect */
  startedAt: number;
  directory: string;
  /** warnings that are known before it begins */
  warnings: readonly string[];
  progress(update: Omit<Progress, 'source'>): void;
  /** of a base backup: see {@link watchHistory} */
  eraOf?(systemId: string): Promise<number | undefined>;
}

class SourceCapturer implements Capturer {
  private readonly deps: CapturerDeps;
  private readonly context: RunContext;
  private readonly snapshots: Manifest[];
  /** The snapshots to reuse packs from. An unsigned one may be forged, so no signed snapshot builds on it. */
  private readonly reusable: Manifest[];
  /** what later sources do not know yet, by the source that has stored it */
  private readonly unshared = new Map<string, SharedIndex & { file: string }>();

  constructor(deps: CapturerDeps, context: RunContext) {
    this.deps = deps;
    this.context = context;
    this.snapshots = context.snapshots.map(({ manifest }) => manifest);
    this.reusable = context.snapshots.filter(({ unsigned }) => !unsigned).map(({ manifest }) => manifest);
  }

  async capture(planned: PlannedSource, warnings: readonly string[]): Promise<Captured> {
    const { deps } = this;
    const startedAt = performance.now();
    const directory = path.join(deps.spool, planned.name);
    const progress = (update: Omit<Progress, 'source'>) =>
      deps.dispatcher.emit({ type: 'progress', progress: { source: planned.name, ...update } });
    try {
      return await this.captureTree({ planned, startedAt, directory, warnings, progress });
    } catch (error) {
      return this.failed(planned, error, startedAt);
    }
  }

  async share(): Promise<void> {
    const { known } = this.context;
    for (const [source, { file, ...index }] of known ? this.unshared : []) {
      this.unshared.delete(source);
      await known?.share(source, file, index);
    }
  }

  async failed(
    planned: Pick<PlannedSource, 'name' | 'kind'>,
    error: unknown,
    startedAt = performance.now(),
  ): Promise<Captured> {
    const { log, signal } = this.context;
    this.unshared.delete(planned.name);
    const info = errorInfo(signal.aborted ? signal.reason : spoolError(error));
    // The report of the run says so to people.
    log.debug('source failed', { source: planned.name, ...info });
    // An interrupted run removes the objects of all its sources at its end, when no container waits.
    if (!signal.aborted) {
      await this.removeObjects(planned.name).catch((left: unknown) =>
        log.warn('objects of a failed source could not be removed', { source: planned.name, error: String(left) }),
      );
    }
    const durationMs = since(startedAt);
    return failedOutcome(planned, info, { durationMs, lastGood: lastGoodOf(this.snapshots, planned.name) });
  }

  private async captureTree(task: Task): Promise<Captured> {
    const { deps, context } = this;
    const { planned, directory, progress } = task;
    const spool = path.join(directory, 'tree');
    const { run, log, signal } = context;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      const source = deps.makeSource(planned, context);
      await mkdir(spool, { mode: 0o700 });
      if (planned.kind === 'base') task.eraOf = await watchHistory(context, planned.server);
      return await source.capture({ runId: run.id, spool, log, signal, progress }, (tree) => this.store(task, tree));
    } finally {
      // The index is needed until the commit, the rest of the spool is not.
      await deps.clear(spool, run.id);
    }
  }

  /** Stores a tree, its facts and its index. */
  private async store(task: Task, captured: CapturedTree): Promise<Captured> {
    const { deps, context, snapshots } = this;
    const { name } = task.planned;
    const { run, repository, journal, log } = context;
    const claimed = new Set([...this.unshared.values()].flatMap(({ renewed }) => [...renewed]));
    const reading = { state: deps.state, context, renewal: deps.renewal, claimed };
    const indexPath = path.join(task.directory, 'index.ndjson');
    const previous = await previousTree(reading, name, lastStoredOf(this.reusable, name), task.directory);
    const known = this.knownFor(name, previous.renewed);
    const stored = await this.storeTree(task, captured, { indexPath, previous: previous.tree, known });
    await captured.tar?.check(indexPath);
    const era = captured.base && (await task.eraOf?.(captured.base.systemId));
    if (captured.base && era !== undefined) captured.base = { ...captured.base, era };
    await this.refuseEmpty(task.planned, stored);
    stored.warnings.push(...(await this.findAside(task.planned, stored.areas ?? captured.areas)));
    const record = async (key: string) => journal.record({ type: 'object', key });
    const last = lastStoredOf(this.reusable, name)?.entry;
    const same = await sameDocuments(reading, name, last, { facts: captured.facts, indexPath });
    const facts = same.facts ?? (await repository.putFacts(run.id, name, captured.facts, record));
    const index = same.index ?? (await repository.putIndex(run.id, name, indexPath, record));
    const packs = await this.putPacks(name, { packs: stored.packs, indexPath }, record);
    const accepted = await deps.state.accepted().catch(() => ({}));
    const former = formerSnapshots(storesPast(run.trigger) ? [] : snapshots, name, accepted);
    const restored = await readRestored(deps.state.directory).catch((): Record<string, RestoredSource> => ({}));
    const shrinkage = await findShrinkage(
      { readFacts: factsReader(reading, name), log, share: deps.shrinkageShare },
      captured,
      stored,
      { ...former, restored: restored[name] },
    );
    const source: StoredSource = {
      planned: task.planned,
      tree: { ...captured, warnings: [...task.warnings, ...captured.warnings, ...previous.warnings] },
      ...{ stored, facts, index, packs, shrinkage, snapshots },
      lastGood: lastGoodOf(snapshots, name),
      durationMs: since(task.startedAt),
      ...{ trigger: run.trigger, zone: deps.zone },
    };
    const keepIndex = async () => {
      await deps.state.cacheIndex(name, index.sha256, indexPath);
      const file = await deps.state.cachedIndex(name, index.sha256);
      const committed = { sha256: index.sha256, packs: stored.packs, isBasedOnTable: known?.coversPrevious === true };
      if (file) await context.known?.add(file, committed);
      if (facts) await deps.state.cacheFacts(name, facts.sha256, captured.facts);
    };
    this.unshared.set(name, { packs: stored.packs, renewed: previous.renewed ?? new Set(), file: indexPath });
    return { ...storedOutcome(source), keepIndex };
  }

  /** Returns warnings about the data that restores put aside in a volume. */
  private async findAside(planned: PlannedSource, areas: readonly string[] | undefined): Promise<string[]> {
    const { run, journal } = this.context;
    if (!areas || run.trigger === 'safety') return [];
    const isDataDirectory = planned.kind === 'base';
    const seen = { source: planned.kind === 'base' ? planned.server : planned.name, isDataDirectory };
    return asideWarnings(this.deps.state, seen, areas, path.dirname(journal.file));
  }

  /** Puts the list of the packs, or uses the list of the last snapshot if it names the same packs and is whole. */
  private async putPacks(
    source: string,
    { packs, indexPath }: Pick<StoredTree, 'packs'> & { indexPath: string },
    record: (key: string) => Promise<void>,
  ) {
    const { run, repository } = this.context;
    const last = lastStoredOf(this.reusable, source)?.entry.packs;
    const isThere = last && (this.context.stored?.has(last) ?? true);
    const isWhole = isThere && !(await this.deps.state.damaged()).includes(last.key);
    const use = await measureUse(indexPath);
    return repository.putPacks({ id: run.id, source, packs, use }, { record, ...(isWhole ? { last } : {}) });
  }

  private storeTree(
    { planned, directory, progress }: Task,
    tree: CapturedTree,
    { indexPath, previous, known }: { indexPath: string; previous: PreviousTree | undefined; known: StoreJob['known'] },
  ): Promise<StoredTree> {
    const { run, journal, signal } = this.context;
    return this.deps.treeStore.store({
      ...{ tree, source: planned.name, runId: run.id, journal: journal.file, indexPath, spool: directory },
      sqlite: planned.kind !== 'postgres' && planned.kind !== 'base',
      ...{ signal, progress },
      ...(previous ? { previous } : {}),
      ...(known ? { known } : {}),
    });
  }

  /** Returns what other kept snapshots hold. `renewed`: packs whose remaining content is stored again. */
  private knownFor(name: string, renewed: ReadonlySet<string> | undefined): StoreJob['known'] {
    const { known } = this.context;
    if (!known) return undefined;
    const { table, of, packs } = known;
    const last = lastStoredOf(this.reusable, name)?.entry.index;
    const coversPrevious = last !== undefined && known.isCovered(last.sha256);
    return { table, of, packs, without: [...(renewed ?? [])], coversPrevious };
  }

  /** Throws TREE_EMPTY for a source without any file, unless {@link judgeEmpty} finds no loss. */
  private async refuseEmpty(planned: PlannedSource, stored: StoredTree): Promise<void> {
    // A safety snapshot may be empty: the data that a restore replaces is often wrong.
    if (stored.files > 0 || this.context.run.trigger === 'safety') return;
    const accepted = await this.deps.state.accepted();
    const lost = judgeEmpty(planned, { snapshots: this.snapshots, accepted, now: this.deps.now() });
    if (lost === 'lost') throw emptyError(planned);
    stored.warnings.push(...(lost === 'not filled yet' ? [`${planned.name} holds no files yet`] : []));
  }

  /** Removes the objects that the journal lists for the source, including those that helpers stored. */
  private async removeObjects(source: string): Promise<void> {
    const { run, repository, journal } = this.context;
    const own = objectsOfSource(await journalObjects(journal.file), { project: run.project, run: run.id, source });
    // A prune removes the packs if no other source of the run has used them.
    const isShared = this.context.known?.shared.has(source) === true;
    await repository.removeObjects(isShared ? own.filter((key) => !isPackKey(key)) : own);
  }
}

function since(startedAt: number): number {
  return Math.round(performance.now() - startedAt);
}
