import { rm } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type HelperLabels, PROBE_RUN } from '../docker/helper-labels.ts';
import { requireGone } from '../docker/remove-helper.ts';
import { reportDeadDrill } from '../drill/conclude.ts';
import { isGroupHalf } from '../kept/group.ts';
import { halfSwapped } from '../kept/undo-volumes.ts';
import type { Dispatcher } from '../report/dispatch.ts';
import type { RestoreStart, RunReport, RunStart } from '../report/events.ts';
import { type Earlier, previousStatus, withEarlier } from '../report/tries.ts';
import { isRegularRun } from '../report/trigger.ts';
import { endOf, reportDeadRestore } from '../restore/dead-restore.ts';
import { unfinishedBy } from '../restore/point/unfinished-volume.ts';
import {
  appendJournal,
  type JournalEntry,
  journalObjects,
  openJournals,
  type Reached,
  type RolledBackFrom,
  readJournal,
} from '../run/journal.ts';
import { type HoldDeps, releaseHolds } from '../run/release.ts';
import { emptySpool } from '../run/spool.ts';
import type { State } from '../run/state.ts';
import { parseSnapshotId } from '../store/objects/snapshot-id.ts';
import type { Repository } from '../store/repository/repository.ts';

export interface RecoverDeps {
  /** directory of the journals */
  journals: string;
  /** directory of runs inside the spool */
  spool: string;
  destination: string;
  project: string;
  state: State;
  dispatcher: Dispatcher;
  log: Log;
  now(): Date;
  repository(): Promise<Repository>;
  holdDeps(record: HoldDeps['record']): HoldDeps;
  /** Returns whether another running agent owns a journal or helper. Rejects if that is unknown. */
  isOthers(agent: string): Promise<boolean>;
  /**
   * Removes the helpers of this project, except those that `keep` accepts. Resolves to the ids of runs whose helpers
   * still exist. Rejects if helpers cannot be listed.
   */
  reapHelpers(keep: (helper: HelperLabels) => boolean | Promise<boolean>): Promise<ReadonlySet<string>>;
  /** Drops or completes the databases that a dead restore left. Resolves to whether nothing remains to be done. */
  completeDatabases(
    entries: readonly JournalEntry[],
    run: { id: string; record(entry: JournalEntry): void },
  ): Promise<boolean>;
  /** finds out how far a dead restore or rollback came; rejects if its server does not answer */
  reachedBy(restore: RestoreStart, from?: RolledBackFrom): Promise<Reached>;
  agentVersion: string;
  /** Completes or reverts the volumes that a dead restore or rollback left half done. */
  undoVolumes(entries: readonly JournalEntry[], journal: string): Promise<{ done: boolean; now?: 'old' | 'new' }>;
  /** removes unfinished files of this project from the destination; the lock excludes other writers */
  sweepTemporary(): Promise<void>;
}

/** `lifeboat plan` uses helpers for some seconds, outside of every run. The command of an older helper has died. */
const STRAY_MS = 60_000;

/**
 * Cleans up after dead runs: starts containers, runs their post hooks, removes helpers, half restored databases,
 * stored objects that no snapshot names, and their files in the spool. Reports each run as failed under its own rid.
 * The caller holds the lock, so every journal belongs to a dead run, except those of another running agent that shares
 * the spool. Recovery leaves these alone. Never rejects: logs failures, and the next call tries again.
 */
export async function recover(deps: RecoverDeps): Promise<void> {
  const attempt = async (what: string, work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      deps.log.warn(`${what}; trying again later`, { ...errorInfo(error) });
    }
  };
  // Counted as another agent's until their owner is known.
  const others = new Set<string>();
  await attempt('the journals cannot be read', async () => {
    for (const file of await openJournals(deps.journals)) {
      const id = path.basename(file, '.ndjson');
      others.add(id);
      await attempt('a dead run could not be undone', () => recoverOne(deps, file, () => others.delete(id)));
    }
  });
  const strayBefore = deps.now().getTime() - STRAY_MS;
  const isYoung = (runId: string) => (parseSnapshotId(runId)?.date.getTime() ?? 0) > strayBefore;
  await attempt('helpers cannot be listed', async () => {
    const living = await deps.reapHelpers(
      ({ runId, agent }) => isYoung(runId.replace(PROBE_RUN, '')) || deps.isOthers(agent),
    );
    // After the helpers are gone, because a helper could replace a part of its directory with a link.
    await emptySpool(deps, (name) => others.has(name) || living.has(name));
  });
}

async function recoverOne(deps: RecoverDeps, file: string, isOurs: () => void): Promise<void> {
  const entries = await readJournal(file);
  const start = entries.find((entry) => entry.type === 'start');
  if (start?.agent !== undefined && (await deps.isOthers(start.agent))) return;
  isOurs();
  // An empty journal: the run took no step.
  if (!start || (await undo(deps, file, entries, start))) await rm(file, { force: true });
}

/**
 * Undoes and reports one run. Resolves to whether everything is undone; if not, the next call tries again, without a
 * second report.
 */
async function undo(
  deps: RecoverDeps,
  file: string,
  entries: JournalEntry[],
  start: JournalEntry & { type: 'start' },
): Promise<boolean> {
  const id = start.verb === 'backup' ? start.run.id : start.id;
  const reported = entries.some((entry) => entry.type === 'reported');
  if (reported) deps.log.info(`finishing what a ${start.verb} left undone`, { run: id });
  else deps.log.warn(`cleaning up after a dead ${start.verb}`, { run: id });
  const record = (entry: JournalEntry) => appendJournal(file, entry);
  // A container starts only on a volume that is completely old or new.
  const volumes = await undoInVolumes(deps, file, id);
  // In parallel: the user's containers do not wait for the clean-up, and it does not wait for a long post hook.
  const begun = entries.find((entry) => entry.type === 'begun');
  const [{ again }, clean] = await Promise.all([
    volumes.half ? { again: true } : releaseHolds(entries, deps.holdDeps(record)),
    removeLeftovers(deps, file, { id, isBackup: start.verb === 'backup', ...(begun ? { begun } : {}) }),
  ]);
  if (!reported) {
    const isTold = start.verb === 'backup' && isRegularRun(start.run.trigger);
    if (isTold) await reportDead(deps, start, clean.left);
    if (start.verb === 'drill') await reportDeadDrill(deps, start);
    const reached = volumes.reached ?? clean.reached;
    if (start.verb === 'restore') await reportDeadRestore(deps, file, reached);
    const volume = await unfinishedBy(deps.state, id).catch(() => undefined);
    if (volume)
      deps.log.warn('a recovery to a new volume died: a volume that it made may be incomplete', { run: id, volume });
    record({ type: 'reported', ...(begun ? { reached } : {}) });
  }
  return clean.done && volumes.done && !again;
}

/** Completes or reverts volumes. `half`: one is neither old nor new. `reached`: only if the run worked in a volume. */
async function undoInVolumes(
  deps: RecoverDeps,
  file: string,
  id: string,
): Promise<{ done: boolean; half?: boolean; reached?: Reached }> {
  const entries = await readJournal(file);
  if (!entries.some(({ type }) => type === 'volume'))
    return { done: true, half: await isGroupHalf(deps.journals, file) };
  try {
    // First, because a helper of the dead run continues to move files.
    requireGone(await deps.reapHelpers(({ runId }) => runId !== id), id);
    const { done, now } = await deps.undoVolumes(entries, file);
    const half = now === undefined && !done && halfSwapped(await readJournal(file)).length > 0;
    if (half) return { done, half, reached: 'half' };
    return { done, half, reached: now === undefined ? 'unknown' : now === 'new' ? 'swapped' : 'nothing' };
  } catch (error) {
    deps.log.warn('a half restored volume could not be completed or reverted', { run: id, ...errorInfo(error) });
    const half = halfSwapped(entries).length > 0;
    return { done: false, half, reached: half ? 'half' : 'unknown' };
  }
}

interface Cleared {
  done: boolean;
  /** the remains of the run, which may have written its manifest before it died */
  left: 'nothing' | 'snapshot' | 'damaged manifest' | 'on its way' | 'unknown';
  /** of a restore */
  reached: Reached;
}

async function removeLeftovers(
  deps: RecoverDeps,
  journal: string,
  { id, isBackup, begun }: { id: string; isBackup: boolean; begun?: JournalEntry & { type: 'begun' } },
): Promise<Cleared> {
  let left: Cleared['left'] = 'unknown';
  try {
    // First, because a helper of the dead run continues to store objects.
    requireGone(await deps.reapHelpers(({ runId }) => runId !== id), id);
    if (!isBackup) {
      const record = (entry: JournalEntry) => appendJournal(journal, entry);
      const done = await deps.completeDatabases(await readJournal(journal), { id, record });
      // Dropped databases cannot be renamed any more, so the answer is final from here on.
      const reached = begun && done ? await reachedBy(deps, begun) : 'unknown';
      return { done, left, reached };
    }
    const repository = await deps.repository();
    const { snapshots, damaged } = await repository.snapshots();
    if (snapshots.some(({ manifest }) => manifest.id === id)) left = 'snapshot';
    else if (damaged.some((one) => one.id === id)) left = 'damaged manifest';
    else if ((await readJournal(journal)).some(({ type }) => type === 'commit')) left = 'on its way';
    else left = 'nothing';
    // A manifest that may still arrive names objects. A prune, which waits for a day, decides about them.
    if (left !== 'on its way') await repository.removeObjects(await journalObjects(journal));
    await deps.sweepTemporary();
    return { done: true, left, reached: 'unknown' };
  } catch (error) {
    deps.log.warn('leftovers of a dead run could not be removed', { run: id, ...errorInfo(error) });
    return { done: false, left, reached: 'unknown' };
  }
}

const LEFT_HINTS = {
  nothing: 'Nothing of it is left. Look for an out-of-memory kill or a reboot at that time.',
  snapshot: 'Its snapshot was complete and can be used.',
  'on its way':
    'It died while it sent its manifest. If the manifest arrives, the snapshot is complete; if not, a prune removes the objects of the run.',
  unknown: 'Its objects could not be examined yet. Those that no snapshot needs are removed later.',
  'damaged manifest': 'It wrote its manifest, which cannot be read. Run `lifeboat check`.',
};

/**
 * Finds out how far a dead restore came. Does not wait for a server that does not answer: later commands ask it again.
 */
async function reachedBy(deps: RecoverDeps, { restore, from }: JournalEntry & { type: 'begun' }): Promise<Reached> {
  return deps.reachedBy(restore, from).catch((error: unknown) => {
    deps.log.warn('cannot determine how far a dead restore came', { restore: restore.id, ...errorInfo(error) });
    return 'unknown';
  });
}

async function reportDead(
  deps: RecoverDeps,
  { run, earlier }: { run: RunStart; earlier?: Earlier },
  left: Cleared['left'],
): Promise<void> {
  const error = new LifeboatError('RUN_DIED', 'Lifeboat ended in the middle of the run', {
    hint: LEFT_HINTS[left],
  });
  const last = await deps.state.lastRun();
  const own: RunReport = {
    ...run,
    end: endOf(run, deps.now()),
    status: 'failed',
    results: [],
    problems: [],
    error: errorInfo(error),
    destination: deps.destination,
    logTail: [],
    ...(left === 'snapshot' ? { snapshot: run.id } : {}),
    ...previousStatus(last),
  };
  const results = await deps.state.results().catch(() => ({}));
  // A run that had ended and was being reported when it died has a report of its own.
  const ended = last?.id === run.id ? last : undefined;
  const report = ended ?? { ...withEarlier(own, earlier, { results }), status: 'failed' as const };
  if (report.error) deps.log.error('run failed', { run: run.id, ...report.error });
  await deps.state.saveLastRun(report, ended ?? own);
  deps.dispatcher.emit({ type: 'run-finished', report });
  // Sent before the journal notes it as reported.
  await deps.dispatcher.flush();
}
