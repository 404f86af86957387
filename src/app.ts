import { backup } from './backup.ts';
import type { BackupRequest } from './backup-context.ts';
import { type CopyRequest, copyAlone } from './copy-alone.ts';
import { watch } from './docker/discover.ts';
import { isRunning } from './docker/marker.ts';
import { LifeboatError } from './errors.ts';
import type { Foreign } from './foreign.ts';
import { type Base, type Ground, layGround } from './ground.ts';
import { type HeldData, heldData } from './held-data.ts';
import { keptIn, volumePlace } from './kept-volumes.ts';
import { isLocked } from './lock.ts';
import { createLog } from './log.ts';
import { probeRun } from './probe.ts';
import type { PruneRequest } from './prune.ts';
import { type Pruning, pruneEverywhere } from './prune-everywhere.ts';
import { readSettings } from './read-settings.ts';
import { createDispatcher } from './report/dispatch.ts';
import type { CopyReport, Listener, RestoreReport, RunReport } from './report/events.ts';
import type { RestoreRequest, RestoreResult } from './restore-context.ts';
import type { RollbackRequest } from './rollback.ts';
import type { Rollback } from './state.ts';
import { runsUnderWay, type UnderWay } from './under-way.ts';
import { backupDepsOf, copyAloneDeps, pruneEverywhereDeps, recoverOn, restoreDepsOf } from './verb-deps.ts';

const ALIVE_FILE = '/run/lifeboat/alive';

/** Throws as {@link readSettings}. */
export function createBase(env: NodeJS.ProcessEnv, writeLog?: (line: string) => void): Base {
  const settings = readSettings(env);
  return { settings, log: createLog(settings.logLevel, writeLog) };
}

/** The product, put together. */
export interface App extends Ground {
  /** true while the lock is held: by a backup, restore, prune, copy, or what undoes dead runs */
  isBusy(): Promise<boolean>;
  /** backups and restores that are under way, oldest first */
  runsUnderWay(): Promise<UnderWay[]>;
  backup(request: BackupRequest, listeners?: Listener[]): Promise<RunReport>;
  restore(request: RestoreRequest, listeners?: Listener[]): Promise<RestoreResult>;
  rollback(request: RollbackRequest): Promise<RestoreReport>;
  forget(request: RollbackRequest): Promise<Rollback>;
  heldData(): Promise<HeldData[]>;
  prune(request: PruneRequest, signal: AbortSignal): Promise<Pruning[]>;
  copy(request: CopyRequest): Promise<CopyReport[]>;
  daemon(signal: AbortSignal): Promise<void>;
}

/** Builds everything on the ground that {@link layGround} finds, and fails as that does. */
export async function createApp(base: Base, foreign?: Foreign): Promise<App> {
  const ground = await layGround(base, foreign);
  const { log, project, notifiers, state, plan, treeStore, self, journals, engine } = ground;
  const app: App = {
    ...ground,
    isBusy: () => isLocked(project),
    runsUnderWay: () =>
      runsUnderWay(journals, { agentId: self.facts.id, isRunning: (agent) => isRunning(engine, agent) }),
    backup: (request, listeners = []) =>
      backup(backupDepsOf(ground, createDispatcher([...notifiers, ...listeners], { log })), request),
    // Loaded when they are used: a backup starts without them.
    restore: async (request, listeners) =>
      (await import('./restore.ts')).restore(restoreDepsOf(ground, listeners), request),
    rollback: async (request) => (await import('./rollback.ts')).rollback(restoreDepsOf(ground), request),
    forget: async (request) => (await import('./rollback.ts')).forget(restoreDepsOf(ground), request),
    heldData: () =>
      heldData(
        { state, plan },
        (source, signal) => ground.openToLook(source, probeRun(), signal),
        ({ mount }, signal) => keptIn(treeStore, volumePlace(mount, self.facts.mounts), probeRun(), signal),
      ),
    prune: (request, signal) => pruneEverywhere(pruneEverywhereDeps(ground), request, signal),
    copy: (request) => copyAlone(copyAloneDeps(ground), request),
    daemon: (signal) => runDaemon(ground, app, signal),
  };
  return app;
}

async function runDaemon(ground: Ground, app: App, signal: AbortSignal): Promise<void> {
  const { state, log, now, settings, journals, engine, plan, self } = ground;
  const [{ schedule }, { daemon }] = await Promise.all([import('node-cron'), import('./daemon.ts')]);
  await daemon(
    {
      state,
      log,
      now,
      zone: settings.timeZone,
      schedule: settings.schedule,
      journals,
      agentId: self.facts.id,
      aliveFile: ALIVE_FILE,
      plan,
      backup: app.backup,
      recover: () => recoverAlone(ground),
      isBusy: app.isBusy,
      watch: (onChange, until) => watch(engine, { onChange, log, signal: until }),
      everyMinute: (tick) => {
        const task = schedule('* * * * *', tick);
        return () => void task.stop();
      },
    },
    signal,
  );
}

/** Recovers if nobody is at work; somebody who is has recovered already. */
async function recoverAlone(ground: Ground): Promise<void> {
  const held = await ground.lock({ patient: false }).catch((error: unknown) => {
    if (error instanceof LifeboatError && error.code === 'LOCKED') return undefined;
    throw error;
  });
  if (!held) return;
  const dispatcher = createDispatcher(ground.notifiers, { log: ground.log });
  try {
    await recoverOn(ground, dispatcher);
  } finally {
    await held.release();
    await dispatcher.settle();
  }
}
