import path from 'node:path';
import { backupUnderLock } from '../backup/backup.ts';
import { createCapturer } from '../backup/capture.ts';
import type { BackupDeps } from '../backup/context.ts';
import { prepareKnown } from '../backup/known-contents.ts';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import { asRun } from '../base/log.ts';
import type { CopyAloneDeps } from '../copy/alone.ts';
import type { CopyDeps } from '../copy/context.ts';
import { copyAll } from '../copy/copy.ts';
import { highestCopied } from '../copy/highest-copied.ts';
import { planWithKeep } from '../copy/plan.ts';
import type { PruneEverywhereDeps } from '../copy/prune-everywhere.ts';
import { recover } from '../daemon/recover.ts';
import { isRunning } from '../docker/marker.ts';
import { hasHelpers, reapHelpers } from '../docker/remove-helper.ts';
import { reachedBy } from '../kept/databases.ts';
import { recoverVolumes } from '../kept/undo-volumes.ts';
import { completeDatabases } from '../kept/working-databases.ts';
import { readSizes, saveSize, sizeProblems } from '../overview/size-log.ts';
import type { KeepPolicy, Plan } from '../plan/model.ts';
import { type ClockWatch, watchClock } from '../prune/clock-jump.ts';
import { prune } from '../prune/prune.ts';
import { createDispatcher, type Dispatcher } from '../report/dispatch.ts';
import type { Listener } from '../report/events.ts';
import type { RestoreDeps } from '../restore/context.ts';
import type { RunDeps } from '../run/run-deps.ts';
import { clearDirectory } from '../run/spool.ts';
import { openAnswering, whenUp } from '../sources/postgres/server/when-up.ts';
import type { StoredSizes } from '../store/objects/measure.ts';
import type { Repository } from '../store/repository/repository.ts';
import { refuseLostEnd } from '../store/repository/seen-chain.ts';
import { rememberedIn } from '../wal/receiver-state.ts';
import { keepReceivers } from './daemon-lock.ts';
import { renewalRuleOf } from './destinations.ts';
import type { Environment } from './environment.ts';
import { makeSource } from './make-source.ts';
import { forgetPlaces, limitedPlacesOf } from './places.ts';

/** The functions below make the dependencies of each command from the environment. */

/** The most time that a server gets to show how far a dead restore came, milliseconds. */
const ASK_LIMIT_MS = 60_000;

/** One recovery waits this long for a stop that a dead run began, milliseconds. The next recovery continues. */
const STOP_WAIT_MS = 12_000;

/** A restore with --from must not wait for the agent's own destination, which may be down. The daemon contacts it. */
const notNow = async (): Promise<Repository> => {
  throw new LifeboatError('DEST_UNREACHABLE', 'a restore with --from does not contact the usual destination');
};

/** Recovers dead runs. The caller has the lock. */
export function recoverOn(environment: Environment, dispatcher: Dispatcher): Promise<void> {
  const { engine, log, project, state, treeStore, plan, self } = environment;
  return recover({
    journals: environment.journals,
    spool: environment.runs,
    destination: environment.own.destination.name,
    project,
    state,
    dispatcher,
    log,
    now: environment.now,
    repository: environment.otherRepository ? notNow : environment.own.repository,
    holdDeps: (record) => ({ ...environment.holdDeps(record), stopWaitMs: STOP_WAIT_MS }),
    isOthers: async (owner) => owner !== '' && owner !== self.facts.id && isRunning(engine, owner),
    reapHelpers: async (keep) => (await reapHelpers(engine, project, keepReceivers(environment, keep), log)).living,
    completeDatabases: (entries, run) =>
      completeDatabases({ project, log, plan, openTools: environment.openTools }, entries, run),
    undoVolumes: (entries, journal) =>
      recoverVolumes({ treeStore, log, state, agentMounts: self.facts.mounts }, entries, journal),
    reachedBy: (restore, from) =>
      reachedBy({ state, plan }, restore, from, (source) =>
        environment.openToLook(source, restore.id, AbortSignal.timeout(ASK_LIMIT_MS)),
      ),
    agentVersion: environment.version,
    sweepTemporary: environment.own.sweep,
  });
}

function clearOf({ engine, project, log, found }: Environment): (directory: string, runId: string) => Promise<void> {
  const deps = { hasHelpers: async (runId: string) => found && (await hasHelpers(engine, project, runId)), log };
  return (directory, runId) => clearDirectory(directory, runId, deps);
}

function pruneDepsOf({ settings, state, journals, otherRepository, now, log }: Environment) {
  return {
    ...(otherRepository ? {} : { remembered: rememberedIn(state.directory) }),
    ...{ keep: settings.keep, state, journals, zone: settings.timeZone, now, log },
    saveSize: (place: string, sizes: StoredSizes) =>
      saveSize(state.directory, place, { at: now().toISOString(), ...sizes }).catch((error: unknown) =>
        log.warn('the size of the repository could not be recorded', { ...errorInfo(error) }),
      ),
  };
}

/** The dependencies that every kind of copying shares. */
function copyDepsOf(environment: Environment, plan: Plan) {
  const { copies, settings, state, now, log } = environment;
  const { keep, timeZone: zone, stallTimeoutMs } = settings;
  return { copies, plan, keep, state, zone, now, log, stallTimeoutMs };
}

/** Prunes a copy by its own retention. */
function pruneCopyOf(environment: Environment, plan: Plan, clockJump: ClockWatch): NonNullable<CopyDeps['prune']> {
  return ({ keep }, repository, fence, signal) => {
    const deps = { ...pruneDepsOf(environment), plan: planWithKeep(plan, keep), ...(keep ? { keep } : {}) };
    return prune({ ...deps, repository, fence, clockJump, signal }, { dryRun: false });
  };
}

/** Keeps everything. */
const EVERYTHING: KeepPolicy = { last: 1_000_000 };

/** The dependencies of a command that works on the repository outside of a backup. */
function aloneOf(environment: Environment) {
  const { lock, lease, plan, log, notifiers } = environment;
  const recover = () => recoverOn(environment, createDispatcher(notifiers, { log }));
  const repository = async () => {
    const opened = await environment.repository({ create: false });
    if (environment.otherRepository) return opened;
    refuseLostEnd(opened, await opened.snapshots());
    return opened;
  };
  return { lock, lease, recover, plan, repository };
}

export function pruneEverywhereDeps(environment: Environment): PruneEverywhereDeps {
  const { destination, copies, settings } = environment;
  return {
    ...pruneDepsOf(environment),
    clockJump: watchClock(environment.now),
    ...aloneOf(environment),
    destination: destination.name,
    copies,
    stallTimeoutMs: settings.stallTimeoutMs,
  };
}

export function copyAloneDeps(environment: Environment): CopyAloneDeps {
  // The lock may be held by another copy, and the second one has no reason to end the first.
  const alone = { ...aloneOf(environment), lock: () => environment.lock({ ask: false }) };
  if (!environment.otherRepository) return { ...alone, deps: (plan) => copyDepsOf(environment, plan) };
  // From a copy to the destination. The state of the copies stays unchanged. The place to read from may be read-only.
  const state = {
    ...environment.state,
    // The destination may be ahead of the copy.
    abandoned: async () => Number.POSITIVE_INFINITY,
    copies: async () => ({}),
    saveCopies: async () => undefined,
    saveDamaged: async () => undefined,
  };
  const copies = [{ ...environment.own.place, keep: EVERYTHING, keepsPins: true as const }];
  const lease = async () => ({ fence: async () => undefined, release: async () => undefined });
  return { ...alone, lease, deps: (plan) => ({ ...copyDepsOf(environment, plan), copies, state }) };
}

/** The dependencies that backups and restores share. */
export function runDepsOf(environment: Environment, dispatcher: Dispatcher): RunDeps {
  const { project, journals, state, log, now, plan } = environment;
  return {
    ...{ project, journals, state, dispatcher, log, now, plan },
    agentVersion: environment.version,
    agentId: environment.self.facts.id,
    spool: environment.runs,
    recover: async () => (environment.found ? recoverOn(environment, dispatcher) : undefined),
    clear: clearOf(environment),
  };
}

export function backupDepsOf(environment: Environment, dispatcher: Dispatcher): BackupDeps {
  const { settings, state, treeStore, now } = environment;
  let planned: Plan | undefined;
  return {
    ...runDepsOf(environment, dispatcher),
    destination: environment.destination.name,
    lock: environment.lock,
    sweepTemporary: environment.own.sweep,
    forgetPlaces: () => forgetPlaces(state.directory, settings),
    zone: settings.timeZone,
    plan: async () => {
      planned = await environment.plan();
      return planned;
    },
    repository: environment.repository,
    lease: environment.lease,
    look: async () => (await environment.own.look().catch(() => undefined))?.repository,
    holdDeps: (journal, log) => ({ ...environment.holdDeps((entry) => journal.record(entry)), log }),
    capturer: (context) =>
      createCapturer(
        {
          ...{ state, dispatcher, treeStore, now, shrinkageShare: settings.fall, clear: clearOf(environment) },
          ...{ renewal: renewalRuleOf(settings), zone: settings.timeZone },
          makeSource: (source, run) => makeSource(environment, source, run),
          spool: path.join(environment.runs, context.run.id),
        },
        context,
      ),
    known: (context) =>
      prepareKnown({
        ...{ state, context, renewal: renewalRuleOf(settings) },
        directory: path.join(environment.runs, context.run.id, 'known'),
      }),
    nextRun: () => (planned ? environment.nextRun(planned) : undefined),
    highestCopied: (main, end, signal) => highestCopied({ copies: environment.copies, main, end, state, signal }),
    copy: async (plan, repository, { lease, prune: wanted, signal }) => {
      const deps = { ...copyDepsOf(environment, plan), main: async () => repository, lease, signal };
      return environment.copies.length === 0
        ? []
        : copyAll({
            ...deps,
            progress: (name, done, total) =>
              dispatcher.emit({ type: 'progress', progress: { source: name, phase: 'copying', done, total } }),
            ...(wanted ? { prune: pruneCopyOf(environment, plan, wanted.clockJump) } : {}),
          });
    },
    sizeProblems: async () => sizeProblems(limitedPlacesOf(environment), await readSizes(state.directory)),
    prune: (plan, repository, pruning) =>
      prune({ ...pruneDepsOf(environment), plan, repository, ...pruning }, { dryRun: false }),
  };
}

export function restoreDepsOf(environment: Environment, listeners: readonly Listener[] = []): RestoreDeps {
  const { log, state, settings, self } = environment;
  return {
    ...runDepsOf(environment, createDispatcher([...environment.notifiers, ...listeners], { log })),
    lock: environment.lock,
    engine: environment.engine,
    stallTimeoutMs: settings.stallTimeoutMs,
    agentMounts: self.facts.mounts,
    treeStore: environment.treeStore,
    otherRepository: environment.otherRepository,
    isCopy: environment.isCopy,
    repository: () => environment.repository({ create: false }),
    holdDeps: (journal) => environment.holdDeps((entry) => journal.record(entry)),
    safetyBackup: (sources, signal) =>
      // The restore reports this backup, so the record of the last run stays unchanged.
      asRun(() =>
        backupUnderLock(
          {
            ...backupDepsOf(environment, createDispatcher([], { log })),
            state: { ...state, saveLastRun: async () => undefined },
          },
          { trigger: 'safety', only: ({ name }) => sources.includes(name), signal },
        ),
      ),
    openTools: (source, { journal, say, ...context }) => {
      const recordHelper = (name: string) => journal.record({ type: 'helper', name });
      const about = { engine: environment.engine, id: source.containerId, name: source.containerName, log };
      return whenUp({ ...about, signal: context.signal, onWait: (phase) => say(`  ${phase}`) }, () =>
        openAnswering(() => environment.openTools(source, { ...context, recordHelper })),
      );
    },
  };
}
