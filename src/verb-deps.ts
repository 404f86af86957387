import path from 'node:path';
import { backupUnderLock } from './backup.ts';
import type { BackupDeps, RunContext } from './backup-context.ts';
import { createCapturer } from './capture.ts';
import { type CopyDeps, copyAll } from './copy.ts';
import type { CopyAloneDeps } from './copy-alone.ts';
import { planWithKeep } from './copy-plan.ts';
import { isRunning } from './docker/marker.ts';
import { hasHelpers, reapHelpers } from './docker/remove-helper.ts';
import { LifeboatError } from './errors.ts';
import type { Ground } from './ground.ts';
import { keptDatabases, reachedBy } from './kept-databases.ts';
import { checkWhole, undoVolumes, volumePlace } from './kept-volumes.ts';
import type { KeepPolicy, Plan, PlannedSource } from './plan/model.ts';
import { prune } from './prune.ts';
import type { PruneEverywhereDeps } from './prune-everywhere.ts';
import { recover } from './recover.ts';
import { createDispatcher, type Dispatcher } from './report/dispatch.ts';
import type { Listener } from './report/events.ts';
import type { RestoreDeps } from './restore-context.ts';
import { createFilesSource } from './sources/files.ts';
import { createPostgresSource } from './sources/postgres/postgres-source.ts';
import type { Source } from './sources/source.ts';
import { createVolumeSource } from './sources/volume.ts';
import { clearDirectory } from './spool.ts';
import type { Repository } from './store/repository.ts';
import { dropLeftDatabases } from './working-databases.ts';

/** What each verb is given, made of the ground that all stand on. */

/** How long a server may take to tell how far a dead restore had come, milliseconds. */
const ASK_LIMIT_MS = 60_000;

/** How long one look after dead runs waits for a stop that one of them began, milliseconds; the next look goes on. */
const STOP_WAIT_MS = 12_000;

/** A restore from elsewhere must not wait for the agent's own destination, which may be down. The daemon asks it. */
const notNow = async (): Promise<Repository> => {
  throw new LifeboatError('DEST_UNREACHABLE', 'the own destination is not asked during a restore from elsewhere');
};

/** Undoes what dead runs left; to be called with the lock held. */
export function recoverOn(ground: Ground, dispatcher: Dispatcher): Promise<void> {
  const { engine, log, project, state, treeStore, plan, self } = ground;
  return recover({
    journals: ground.journals,
    spool: ground.runs,
    destination: ground.own.destination.name,
    state,
    dispatcher,
    log,
    now: ground.now,
    repository: ground.foreign ? notNow : ground.own.repository,
    holdDeps: (record) => ({ ...ground.holdDeps(record), stopWaitMs: STOP_WAIT_MS }),
    isOthers: async (owner) => owner !== '' && owner !== self.facts.id && isRunning(engine, owner),
    reapHelpers: async (keep) => (await reapHelpers(engine, project, keep, log)).living,
    dropDatabases: (entries, run) =>
      dropLeftDatabases({ project, log, plan, openTools: ground.openTools }, entries, run),
    undoVolumes: (entries, journal) =>
      undoVolumes({ treeStore, log, agentMounts: self.facts.mounts }, entries, journal),
    reachedBy: (restore, from) =>
      reachedBy({ state, plan }, restore, from, (source) =>
        ground.openToLook(source, restore.id, AbortSignal.timeout(ASK_LIMIT_MS)),
      ),
    agentVersion: ground.version,
    sweepTemporary: ground.own.sweep,
  });
}

function clearOf({ engine, project, log }: Ground): (directory: string, runId: string) => Promise<void> {
  const deps = { hasHelpers: (runId: string) => hasHelpers(engine, project, runId), log };
  return (directory, runId) => clearDirectory(directory, runId, deps);
}

function makeSource({ agent, self, state, journals }: Ground, planned: PlannedSource, context: RunContext): Source {
  const recordHelper = (name: string) => context.journal.record({ type: 'helper', name });
  if (planned.kind === 'postgres') {
    const besideOthers = context.run.trigger === 'safety';
    return createPostgresSource({
      ...{ agent, planned, recordHelper, besideOthers },
      kept: () => keptDatabases(state, planned.name),
    });
  }
  if (planned.kind === 'volume') {
    const { mounts } = self.facts;
    const source = createVolumeSource(planned, mounts);
    return {
      ...source,
      async capture(capturing, store) {
        await checkWhole(journals, context.journal.file, volumePlace(planned.mount, mounts));
        return source.capture(capturing, store);
      },
    };
  }
  return createFilesSource(planned);
}

export function pruneDepsOf({ settings, state, journals, now, log }: Ground) {
  return { keep: settings.keep, state, journals, zone: settings.timeZone, now, log };
}

/** What all copying is given. */
export function copyDepsOf(ground: Ground, plan: Plan) {
  const { copies, settings, state, now, log } = ground;
  const { keep, timeZone: zone, stallTimeoutMs } = settings;
  return { copies, plan, keep, state, zone, now, log, stallTimeoutMs };
}

/** Prunes a copy by its own retention. */
export function pruneCopyOf(ground: Ground, plan: Plan): NonNullable<CopyDeps['prune']> {
  return ({ keep }, repository, fence, signal) => {
    const deps = { ...pruneDepsOf(ground), plan: planWithKeep(plan, keep), ...(keep ? { keep } : {}) };
    return prune({ ...deps, repository, fence, signal }, { dryRun: false });
  };
}

/** More than there ever is. */
const EVERYTHING: KeepPolicy = { last: 1_000_000 };

/** What a verb needs that works on the repository outside of a backup. */
function aloneOf(ground: Ground) {
  const { lock, lease, plan, log, notifiers } = ground;
  const recover = () => recoverOn(ground, createDispatcher(notifiers, { log }));
  return { lock, lease, recover, plan, repository: () => ground.repository({ create: false }) };
}

export function pruneEverywhereDeps(ground: Ground): PruneEverywhereDeps {
  const { destination, copies, settings } = ground;
  const { stallTimeoutMs } = settings;
  return { ...pruneDepsOf(ground), ...aloneOf(ground), destination: destination.name, copies, stallTimeoutMs };
}

export function copyAloneDeps(ground: Ground): CopyAloneDeps {
  const alone = aloneOf(ground);
  if (!ground.foreign) return { ...alone, deps: (plan) => copyDepsOf(ground, plan) };
  // From a copy to the destination. What is known of the copies stays as it is; a place to read from may be read-only.
  const state = {
    ...ground.state,
    copies: async () => ({}),
    saveCopies: async () => undefined,
    saveDamaged: async () => undefined,
  };
  const copies = [{ ...ground.own.place, keep: EVERYTHING, keepsPins: true as const }];
  const lease = async () => ({ fence: async () => undefined, release: async () => undefined });
  return { ...alone, lease, deps: (plan) => ({ ...copyDepsOf(ground, plan), copies, state }) };
}

export function backupDepsOf(ground: Ground, dispatcher: Dispatcher): BackupDeps {
  const { settings, state, treeStore, now } = ground;
  let planned: Plan | undefined;
  return {
    project: ground.project,
    agentVersion: ground.version,
    destination: ground.destination.name,
    agentId: ground.self.facts.id,
    lock: ground.lock,
    journals: ground.journals,
    spool: ground.runs,
    clear: clearOf(ground),
    sweepTemporary: ground.own.sweep,
    state,
    dispatcher,
    log: ground.log,
    now,
    zone: settings.timeZone,
    recover: () => recoverOn(ground, dispatcher),
    plan: async () => {
      planned = await ground.plan();
      return planned;
    },
    repository: ground.repository,
    lease: ground.lease,
    holdDeps: (journal, log) => ({ ...ground.holdDeps((entry) => journal.record(entry)), log }),
    capturer: (context) =>
      createCapturer(
        {
          ...{ state, dispatcher, treeStore, now, fallShare: settings.fall, clear: clearOf(ground) },
          makeSource: (source, run) => makeSource(ground, source, run),
          spool: path.join(ground.runs, context.run.id),
        },
        context,
      ),
    nextRun: () => (planned ? ground.nextRun(planned) : undefined),
    copy: async (plan, repository, { lease, prune: wanted, signal }) => {
      const deps = { ...copyDepsOf(ground, plan), main: async () => repository, lease, signal };
      const progress: CopyDeps['progress'] = (name, done, total) =>
        dispatcher.emit({ type: 'progress', progress: { source: name, phase: 'copying', done, total } });
      return ground.copies.length === 0
        ? []
        : copyAll({ ...deps, progress, ...(wanted ? { prune: pruneCopyOf(ground, plan) } : {}) });
    },
    prune: (plan, repository, fence, signal) =>
      prune({ ...pruneDepsOf(ground), plan, repository, fence, signal }, { dryRun: false }),
  };
}

export function restoreDepsOf(ground: Ground, listeners: readonly Listener[] = []): RestoreDeps {
  const { log, state, settings, self } = ground;
  const dispatcher = createDispatcher([...ground.notifiers, ...listeners], { log });
  return {
    project: ground.project,
    agentVersion: ground.version,
    agentId: self.facts.id,
    lock: ground.lock,
    journals: ground.journals,
    spool: ground.runs,
    clear: clearOf(ground),
    log,
    state,
    engine: ground.engine,
    dispatcher,
    now: ground.now,
    stallTimeoutMs: settings.stallTimeoutMs,
    agentMounts: self.facts.mounts,
    treeStore: ground.treeStore,
    recover: async () => (ground.found ? recoverOn(ground, dispatcher) : undefined),
    plan: ground.plan,
    foreign: ground.foreign,
    repository: () => ground.repository({ create: false }),
    holdDeps: (journal) => ground.holdDeps((entry) => journal.record(entry)),
    safetyBackup: (source, signal) =>
      // Told by the restore; what is known of the last run stays what it was.
      backupUnderLock(
        {
          ...backupDepsOf(ground, createDispatcher([], { log })),
          state: { ...state, saveLastRun: async () => undefined },
        },
        { trigger: 'safety', only: ({ name }) => name === source, signal },
      ),
    openTools: (source, { journal, ...context }) =>
      ground.openTools(source, { ...context, recordHelper: (name) => journal.record({ type: 'helper', name }) }),
  };
}
