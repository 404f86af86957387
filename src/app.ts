import { readFileSync } from 'node:fs';
import path from 'node:path';
import { planNow, projectOf, readVersion, SPOOL, spoolMountOf } from './agent.ts';
import { backup, backupUnderLock } from './backup.ts';
import type { BackupDeps, BackupRequest, RunContext } from './backup-context.ts';
import { createCapturer } from './capture.ts';
import { daemon, nextRunOf } from './daemon.ts';
import type { Destination } from './destinations/destination.ts';
import { findSelf, type Self, watch } from './docker/discover.ts';
import { createEngine, type Engine } from './docker/engine.ts';
import { reapHelpers } from './docker/helper.ts';
import { isRunning } from './docker/marker.ts';
import { offlineSelf } from './docker/offline.ts';
import { LifeboatError } from './errors.ts';
import { type Foreign, projectIn } from './foreign.ts';
import { type HeldData, heldData } from './held-data.ts';
import { type HoldDeps, patienceOf } from './hold.ts';
import { reachedBy } from './kept-databases.ts';
import { keptIn, undoVolumes, volumePlace } from './kept-volumes.ts';
import { isLocked, takeLock } from './lock.ts';
import { createLog, type Log } from './log.ts';
import { createNotifiers } from './notifiers.ts';
import { helperSettings, openDestination } from './open-destination.ts';
import type { Plan, PlannedSource, PostgresSource } from './plan/model.ts';
import { parseSettings, type Settings, secretValues } from './plan/settings.ts';
import { probeRun } from './probe.ts';
import { type PruneRequest, type PruneResult, prune, pruneAlone } from './prune.ts';
import { recover } from './recover.ts';
import { registerSecret } from './redact.ts';
import { createDispatcher, type Dispatcher } from './report/dispatch.ts';
import type { Listener, RestoreReport, RunReport } from './report/events.ts';
import type { Notifier } from './report/notifier.ts';
import { restore } from './restore.ts';
import type { RestoreDeps, RestoreRequest, RestoreResult } from './restore-context.ts';
import { forget, type RollbackRequest, rollback } from './rollback.ts';
import { takeRunLock } from './run-lock.ts';
import { destinationError } from './run-rules.ts';
import { createFilesSource } from './sources/files.ts';
import { applicationName, createPostgresSource } from './sources/postgres/postgres-source.ts';
import { openTools } from './sources/postgres/tools.ts';
import type { Source } from './sources/source.ts';
import { createVolumeSource } from './sources/volume.ts';
import { openState, type Rollback, type State } from './state.ts';
import { openRepository, type Repository } from './store/repository.ts';
import { createTreeStore, type TreeStore } from './tree-store.ts';
import { type DropDeps, dropLeftDatabases } from './working-databases.ts';

const ALIVE_FILE = '/run/lifeboat/alive';

/** How long a server may take to tell how far a dead restore had come, milliseconds. */
const ASK_LIMIT_MS = 60_000;

/** The settings and the log: all that a command needs before it talks to anything. */
export interface Base {
  settings: Settings;
  log: Log;
}

/** Reads and checks the settings, and registers their secrets. Throws SETTING_* before anything else happens. */
export function createBase(env: NodeJS.ProcessEnv, writeLog?: (line: string) => void): Base {
  const settings = parseSettings(env, (file) => readFileSync(file, 'utf8'));
  for (const secret of secretValues(settings)) registerSecret(secret);
  return { settings, log: createLog(settings.logLevel, writeLog) };
}

/** The product, put together. */
export interface App extends Base {
  project: string;
  version: string;
  engine: Engine;
  state: State;
  treeStore: TreeStore;
  notifiers: Notifier[];
  destination: Destination;
  self: Self;
  plan(): Promise<Plan>;
  repository(options?: { create: boolean }): Promise<Repository>;
  nextRun(plan: Plan): Date;
  /** true while a backup or restore is under way */
  isBusy(): Promise<boolean>;
  openTools(source: Parameters<typeof openTools>[0]['source'], context: ToolsContext): ReturnType<typeof openTools>;
  backup(request: BackupRequest, listeners?: Listener[]): Promise<RunReport>;
  restore(request: RestoreRequest, listeners?: Listener[]): Promise<RestoreResult>;
  rollback(request: RollbackRequest): Promise<RestoreReport>;
  forget(request: RollbackRequest): Promise<Rollback>;
  heldData(): Promise<HeldData[]>;
  prune(request: PruneRequest, signal: AbortSignal): Promise<PruneResult>;
  daemon(signal: AbortSignal): Promise<void>;
}

type ToolsContext = Omit<Parameters<typeof openTools>[0], 'agent' | 'source' | 'log'>;

/**
 * Finds the agent's own container and builds everything on it. With `foreign`, on a repository that is not its own, and
 * then also where there is no engine: files can be brought to a directory all the same.
 *
 * Errors: ENGINE_UNREACHABLE, AGENT_NOT_IN_CONTAINER; with `foreign` USAGE, SNAPSHOT_UNKNOWN.
 */
export async function createApp(base: Base, foreign?: Foreign): Promise<App> {
  const { log } = base;
  const settings = foreign ? { ...base.settings, destination: foreign.directory } : base.settings;
  const engine = createEngine({ log });
  const found = await findSelf(engine).catch((error: unknown) => {
    if (!foreign) throw error;
  });
  const self = found ?? (await offlineSelf());
  const stored = foreign && (await projectIn(openDestination(settings), foreign.project, self.facts.project));
  const project = self.facts.project || !stored ? projectOf(self, settings) : stored;
  const spoolMount = spoolMountOf(self);
  const version = readVersion();
  const now = () => new Date();
  const state = openState(path.join(SPOOL, 'state'));
  const journals = path.join(state.directory, 'runs');
  const runs = path.join(SPOOL, 'runs');
  const destination = openDestination(settings);
  const helper = helperSettings(settings);
  const notifiers = createNotifiers(settings, project);
  const { id, imageId } = self.facts;
  const agent = { engine, id, project, spoolMount, stallTimeoutMs: settings.stallTimeoutMs };
  const lock = () => (found ? takeRunLock({ engine, project, agent: { id, imageId }, log }) : takeLock(project));
  const treeStore = createTreeStore({
    engine,
    log,
    project,
    destination,
    agent: { id, imageId },
    helperEnv: helper.open,
    helperSecrets: helper.secret,
    stallTimeoutMs: settings.stallTimeoutMs,
  });

  const plan = () => planNow(engine, self, project, settings);
  const nextRun = (from: Plan) => nextRunOf(from, settings.schedule, settings.timeZone, now());
  const repository = async (options = { create: true }) => {
    const mistaken = destinationError(settings.destination, self.facts.mounts, options.create);
    if (mistaken) throw mistaken;
    return openRepository(destination, { project: stored ?? project, ...options });
  };
  const holdDeps = (record: HoldDeps['record']) => ({
    engine,
    record,
    log,
    patienceMs: patienceOf(self.facts.stopTimeout),
  });

  /** To look at a server outside of a run, or for one that is dead. */
  const openToLook = (source: PostgresSource, runId: string, signal: AbortSignal) => {
    const application = applicationName(project, runId);
    return openTools({ agent, source, log, runId, application, recordHelper: () => undefined, signal });
  };

  const sweepTemporary = async () => {
    if (destinationError(settings.destination, self.facts.mounts, true)) return;
    await destination.sweepTemporary({ prefix: `${project}/`, olderThanMs: 0 });
  };

  const recoverWith = (dispatcher: BackupDeps['dispatcher']) =>
    recover({
      journals,
      spool: runs,
      destination: destination.name,
      state,
      dispatcher,
      log,
      now,
      repository,
      holdDeps,
      isOthers: async (owner) => owner !== '' && owner !== id && isRunning(engine, owner),
      reapHelpers: async (keep) => void (await reapHelpers(engine, project, keep, log)),
      dropDatabases: (entries, run) => {
        const tools: DropDeps['openTools'] = (source, context) => openTools({ agent, source, log, ...context });
        return dropLeftDatabases({ project, log, plan, openTools: tools }, entries, run);
      },
      undoVolumes: (entries, journal) => undoVolumes({ treeStore, log }, entries, journal),
      reachedBy: (restore, from) =>
        reachedBy({ state, plan }, restore, from, (source) =>
          openToLook(source, restore.id, AbortSignal.timeout(ASK_LIMIT_MS)),
        ),
      agentVersion: version,
      sweepTemporary,
    });

  const makeSource = (planned: PlannedSource, context: RunContext): Source => {
    const recordHelper = (name: string) => context.journal.record({ type: 'helper', name });
    if (planned.kind === 'postgres') {
      const besideOthers = context.run.trigger === 'safety';
      return createPostgresSource({ agent, planned, recordHelper, besideOthers });
    }
    if (planned.kind === 'volume') return createVolumeSource(planned, self.facts.mounts);
    return createFilesSource(planned);
  };

  const pruneDeps = { keep: settings.keep, state, journals, zone: settings.timeZone, now, log };
  const backupDeps = (dispatcher: Dispatcher): BackupDeps => {
    let planned: Plan | undefined;
    return {
      project,
      agentVersion: version,
      destination: destination.name,
      agentId: id,
      lock,
      journals,
      spool: runs,
      sweepTemporary,
      state,
      dispatcher,
      log,
      now,
      zone: settings.timeZone,
      recover: () => recoverWith(dispatcher),
      plan: async () => {
        planned = await plan();
        return planned;
      },
      repository,
      holdDeps: (journal, runLog) => ({ ...holdDeps((entry) => journal.record(entry)), log: runLog }),
      capturer: (context) =>
        createCapturer(
          {
            ...{ state, dispatcher, treeStore, makeSource, now, fallShare: settings.fall },
            spool: path.join(runs, context.run.id),
          },
          context,
        ),
      nextRun: () => (planned ? nextRun(planned) : undefined),
      prune: (from, stored, signal) =>
        prune({ ...pruneDeps, plan: from, repository: stored, signal }, { dryRun: false }),
    };
  };

  const runBackup = (request: BackupRequest, listeners: Listener[] = []) =>
    backup(backupDeps(createDispatcher([...notifiers, ...listeners], { log })), request);

  const restoreDeps = (listeners: Listener[] = []): RestoreDeps => {
    const dispatcher = createDispatcher([...notifiers, ...listeners], { log });
    return {
      project,
      agentVersion: version,
      agentId: id,
      lock,
      journals,
      spool: runs,
      log,
      state,
      engine,
      dispatcher,
      now,
      stallTimeoutMs: settings.stallTimeoutMs,
      agentMounts: self.facts.mounts,
      treeStore,
      recover: async () => (found ? recoverWith(dispatcher) : undefined),
      plan,
      foreign: foreign !== undefined,
      repository: () => repository({ create: false }),
      holdDeps: (journal) => holdDeps((entry) => journal.record(entry)),
      safetyBackup: (source, signal) =>
        // Told by the restore; what is known of the last run stays what it was.
        backupUnderLock(
          { ...backupDeps(createDispatcher([], { log })), state: { ...state, saveLastRun: async () => undefined } },
          { trigger: 'safety', only: ({ name }) => name === source, signal },
        ),
      openTools: (source, { journal, ...context }) =>
        app.openTools(source, { ...context, recordHelper: (name) => journal.record({ type: 'helper', name }) }),
    };
  };

  /** Recovers if nobody is at work; somebody who is has recovered already. */
  const recoverAlone = async () => {
    const held = await lock().catch((error: unknown) => {
      if (error instanceof LifeboatError && error.code === 'LOCKED') return undefined;
      throw error;
    });
    if (!held) return;
    const dispatcher = createDispatcher(notifiers, { log });
    try {
      await recoverWith(dispatcher);
    } finally {
      await held.release();
      await dispatcher.settle();
    }
  };

  const app: App = {
    settings,
    log,
    project,
    version,
    engine,
    state,
    treeStore,
    notifiers,
    destination,
    self,
    plan,
    repository,
    nextRun,
    isBusy: () => isLocked(project),
    openTools: (source, context) => openTools({ agent, source, log, ...context }),
    backup: runBackup,
    restore: (request, listeners) => restore(restoreDeps(listeners), request),
    rollback: (request) => rollback(restoreDeps(), request),
    forget: (request) => forget(restoreDeps(), request),
    heldData: () =>
      heldData(
        { state, plan },
        (source, signal) => openToLook(source, probeRun(), signal),
        ({ mount }, signal) => keptIn(treeStore, volumePlace(mount, self.facts.mounts), probeRun(), signal),
      ),
    prune: (request, signal) =>
      pruneAlone(
        {
          ...pruneDeps,
          lock,
          recover: () => recoverWith(createDispatcher(notifiers, { log })),
          plan,
          repository: () => repository({ create: false }),
        },
        request,
        signal,
      ),
    daemon: async (signal) => {
      const { schedule } = await import('node-cron');
      await daemon(
        {
          state,
          log,
          now,
          zone: settings.timeZone,
          schedule: settings.schedule,
          journals,
          agentId: id,
          aliveFile: ALIVE_FILE,
          plan,
          backup: runBackup,
          recover: recoverAlone,
          isBusy: app.isBusy,
          watch: (onChange, until) => watch(engine, { onChange, log, signal: until }),
          everyMinute: (tick) => {
            const task = schedule('* * * * *', tick);
            return () => void task.stop();
          },
        },
        signal,
      );
    },
  };
  return app;
}
