import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { RunContext } from './backup-context.ts';
import { type ErrorInfo, errorInfo, LifeboatError } from './errors.ts';
import { type Falls, fallsOf, formerSnapshots, rowsOf } from './falls.ts';
import { journalObjects } from './journal.ts';
import { isAccepted } from './plan/accepted.ts';
import type { PlannedSource } from './plan/model.ts';
import { formatKeep } from './plan/retention.ts';
import { factsReader, previousTree } from './previous-tree.ts';
import type { Dispatcher } from './report/dispatch.ts';
import type { Progress, SourceReport } from './report/events.ts';
import { type LastGood, lastGoodOf, lastStoredOf } from './run-rules.ts';
import { missingError } from './sources/postgres/missing-error.ts';
import type { CapturedTree, Source } from './sources/source.ts';
import { spoolError } from './spool.ts';
import type { State } from './state.ts';
import type { ManifestSource } from './store/manifest.ts';
import { objectsOfSource } from './store/source-objects.ts';
import { databaseEntry, lastWithDatabase } from './store/stored-databases.ts';
import type { StoredTree } from './store/stored-tree.ts';
import type { TreeStore } from './tree-store.ts';
import { treeErrors, treeSummary, treeWarnings } from './tree-warnings.ts';

/** What became of one source: for people, for the manifest, and what to keep once the snapshot is committed. */
export interface Captured {
  report: SourceReport;
  entry: ManifestSource;
  keepIndex?: () => Promise<void>;
}

export interface Capturer {
  /** Never rejects: a failure is the outcome, and the objects stored for the source are removed again. */
  capture(source: PlannedSource, knownWarnings: readonly string[]): Promise<Captured>;
  /** The outcome of a source that was not even begun. */
  failed(source: PlannedSource, error: unknown): Promise<Captured>;
}

export interface CapturerDeps {
  state: State;
  /** directory of this run inside the spool */
  spool: string;
  dispatcher: Dispatcher;
  treeStore: TreeStore;
  /** a fall of size or rows by more than that share of the last good run is told: 0 to 1 */
  fallShare: number;
  makeSource(planned: PlannedSource, context: RunContext): Source;
  now(): Date;
}

/** capture → store, for one source after the other. */
export function createCapturer(deps: CapturerDeps, context: RunContext): Capturer {
  const { run, repository, log, signal } = context;
  const snapshots = context.snapshots.map(({ manifest }) => manifest);
  // What is not signed may be forged: what is signed now must not be built on it.
  const reusable = context.snapshots.filter((one) => !one.unsigned).map(({ manifest }) => manifest);

  async function captureWell(planned: PlannedSource, before: readonly string[], startedAt: Date): Promise<Captured> {
    const directory = path.join(deps.spool, planned.name);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const progress = (update: Omit<Progress, 'source'>) =>
      deps.dispatcher.emit({ type: 'progress', progress: { source: planned.name, ...update } });
    const lastGood = lastGoodOf(snapshots, planned.name);
    const lastStored = lastStoredOf(snapshots, planned.name);
    try {
      const source = deps.makeSource(planned, context);
      const spool = path.join(directory, 'tree');
      await mkdir(spool, { mode: 0o700 });
      return await source.capture({ runId: run.id, spool, log, signal, progress }, async (captured) => {
        const indexPath = path.join(directory, 'index.ndjson');
        const previous = await previousTree(
          { state: deps.state, context },
          planned.name,
          lastStoredOf(reusable, planned.name),
          directory,
        );
        const stored = await deps.treeStore.store({
          tree: captured,
          source: planned.name,
          runId: run.id,
          journal: context.journal.file,
          indexPath,
          spool: directory,
          sqlite: planned.kind !== 'postgres',
          signal,
          progress,
          ...(previous.tree ? { previous: previous.tree } : {}),
        });
        await checkNotEmpty(planned, stored, lastStored);
        const record = async (key: string) => context.journal.record({ type: 'object', key });
        const facts = await repository.putFacts(run.id, planned.name, captured.facts, record);
        const index = await repository.putIndex(run.id, planned.name, indexPath, record);
        const tree = { ...captured, warnings: [...before, ...captured.warnings, ...previous.warnings] };
        const falls = await fallsOf(
          { readFacts: factsReader({ state: deps.state, context }, planned.name), log, share: deps.fallShare },
          captured,
          stored,
          formerSnapshots(snapshots, planned.name),
        );
        return outcome(planned, tree, stored, { facts, index, indexPath }, falls, lastGood, startedAt);
      });
    } finally {
      // The index lives on until the commit; the rest of the spool is needed by nobody.
      await rm(path.join(directory, 'tree'), { recursive: true, force: true }).catch((left: unknown) =>
        log.warn('the dump of a source could not be removed', { source: planned.name, ...errorInfo(left) }),
      );
    }
  }

  async function checkNotEmpty(planned: PlannedSource, stored: StoredTree, lastStored: LastGood | undefined) {
    // What a restore replaces may be as empty as it is wrong.
    if (stored.files > 0 || run.trigger === 'safety') return;
    const accepted = (await deps.state.accepted())[planned.name];
    const last = context.snapshots.find(({ manifest }) => manifest.id === lastStored?.snapshot)?.manifest;
    if (
      accepted !== undefined &&
      (lastStored === undefined || lastStored.entry.files === 0 || (last && isAccepted(accepted, last)))
    )
      return;
    throw new LifeboatError('TREE_EMPTY', `${planned.name} holds no files at all`, {
      hint: `Check that it is the right volume or path; if it is meant to be empty, say so with \`lifeboat accept ${planned.name}\`.`,
    });
  }

  function outcome(
    planned: PlannedSource,
    tree: CapturedTree,
    stored: StoredTree,
    objects: { facts: ManifestSource['facts']; index: NonNullable<ManifestSource['index']>; indexPath: string },
    falls: Falls,
    lastGood: LastGood | undefined,
    startedAt: Date,
  ): Captured {
    const { files, bytes, newFiles, newBytes } = stored;
    const rows = rowsOf(tree.facts);
    // What a restore replaces is known to be amiss.
    const { since } = falls;
    const fell = since !== undefined && run.trigger !== 'safety' ? { fell: { since } } : {};
    const [failure, ...others] = whyPartial(planned, tree, stored);
    const told = [...treeWarnings(planned, stored), ...others.map(({ message }) => message)];
    const warnings = [...tree.warnings, ...told, ...falls.warnings];
    const status = failure ? ('partial' as const) : ('ok' as const);
    const summary = tree.summary || treeSummary(stored);
    const error = failure ? { error: failure } : {};
    const shared = { kind: planned.kind, status, files, bytes, newFiles, newBytes, summary, warnings, ...error };
    return {
      report: {
        name: planned.name,
        ...shared,
        ...(since === undefined ? {} : { fell: true }),
        durationMs: deps.now().getTime() - startedAt.getTime(),
        ...(lastGood ? { lastGood: { snapshot: lastGood.snapshot, at: lastGood.at } } : {}),
      },
      entry: {
        ...shared,
        ...rows,
        ...(tree.databases ? { databases: tree.databases.map(databaseEntry) } : {}),
        ...(tree.withoutGlobals ? { withoutGlobals: tree.withoutGlobals } : {}),
        ...(tree.image ? { image: tree.image } : {}),
        ...(objects.facts ? { facts: objects.facts } : {}),
        index: objects.index,
        packs: stored.packs,
        skipped: stored.skipped,
        keep: formatKeep(planned.keep),
        ...fell,
      },
      keepIndex: async () => {
        await deps.state.cacheIndex(planned.name, objects.index.sha256, objects.indexPath);
        if (objects.facts) await deps.state.cacheFacts(planned.name, objects.facts.sha256, tree.facts);
      },
    };
  }

  /** What makes a source partial, the worst first. */
  function whyPartial(
    planned: PlannedSource,
    { databases = [], withoutGlobals }: CapturedTree,
    stored: StoredTree,
  ): ErrorInfo[] {
    const last = (database: string) => lastWithDatabase(snapshots, planned.name, database)?.snapshot;
    const missing = missingError(databases, last);
    const parts = [missing, withoutGlobals].filter((part) => part !== undefined);
    return [...treeErrors(planned, stored).map(errorInfo), ...parts];
  }

  async function failed(planned: PlannedSource, error: unknown, startedAt = deps.now()): Promise<Captured> {
    const info = errorInfo(signal.aborted ? signal.reason : spoolError(error));
    log.error('source failed', { source: planned.name, ...info });
    await removeObjects(planned.name).catch((left: unknown) =>
      log.warn('objects of a failed source could not be removed', { source: planned.name, error: String(left) }),
    );
    const durationMs = deps.now().getTime() - startedAt.getTime();
    return failedOutcome(planned, info, durationMs, lastGoodOf(snapshots, planned.name));
  }

  /** What the journal says was stored for the source; helpers wrote there too. */
  async function removeObjects(source: string): Promise<void> {
    const keys = await journalObjects(context.journal.file);
    await repository.removeObjects(objectsOfSource(keys, { project: run.project, run: run.id, source }));
  }

  return {
    async capture(planned, warnings) {
      const startedAt = deps.now();
      try {
        return await captureWell(planned, warnings, startedAt);
      } catch (error) {
        return failed(planned, error, startedAt);
      }
    },
    failed: (planned, error) => failed(planned, error),
  };
}

/** The outcome of a source that recent snapshots have and the plan does not. */
export function vanished(source: { name: string; kind: SourceReport['kind']; lastGood?: LastGood }): Captured {
  const error = new LifeboatError('SOURCE_VANISHED', `${source.name} was backed up before and is not there any more`, {
    hint: `Start its container and check its labels; if it is gone on purpose, say so with \`lifeboat accept ${source.name}\`.`,
  });
  return failedOutcome(source, errorInfo(error), 0, source.lastGood);
}

function failedOutcome(
  { name, kind }: { name: string; kind: SourceReport['kind'] },
  error: ReturnType<typeof errorInfo>,
  durationMs: number,
  lastGood: LastGood | undefined,
): Captured {
  const shared = {
    kind,
    status: 'failed' as const,
    error,
    files: 0,
    bytes: 0,
    newFiles: 0,
    newBytes: 0,
    summary: '',
    warnings: [],
  };
  return {
    report: {
      name,
      ...shared,
      durationMs,
      ...(lastGood ? { lastGood: { snapshot: lastGood.snapshot, at: lastGood.at } } : {}),
    },
    entry: { ...shared, packs: [], skipped: {} },
  };
}
