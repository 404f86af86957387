import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { planNow, projectOf, readVersion, spoolMountOf } from './agent.ts';
import { nextRunOf } from './daemon.ts';
import type { SweepingDestination } from './destinations/destination.ts';
import { findSelf, type Self } from './docker/discover.ts';
import { createEngine, type Engine } from './docker/engine.ts';
import { offlineSelf } from './docker/offline.ts';
import { LifeboatError } from './errors.ts';
import { type Foreign, projectIn } from './foreign.ts';
import { type HoldDeps, patienceOf } from './hold.ts';
import { type Lock, takeLock } from './lock.ts';
import type { Log } from './log.ts';
import { createNotifiers } from './notifiers.ts';
import { helperSettings, openDestination } from './open-destination.ts';
import type { Plan, PostgresSource } from './plan/model.ts';
import type { Settings } from './plan/settings.ts';
import type { Notifier } from './report/notifier.ts';
import { takeRunLock } from './run-lock.ts';
import { destinationError } from './run-rules.ts';
import { applicationName } from './sources/postgres/postgres-source.ts';
import { type AgentContext, type OpenToolsOptions, openTools, type Tools } from './sources/postgres/tools.ts';
import { SPOOL } from './spool.ts';
import { openState, type State } from './state.ts';
import { openRepository, type Repository } from './store/repository.ts';
import { createTreeStore, type TreeStore } from './tree-store.ts';

/** How long a run waits for the lock before it says LOCKED, milliseconds: the daemon looks for dead runs under it. */
const LOCK_PATIENCE_MS = 3000;
const LOCK_RETRY_MS = 150;

/** What every verb stands on: where the agent runs, what it may reach, and what it remembers. */
export interface Ground {
  settings: Settings;
  log: Log;
  engine: Engine;
  self: Self;
  /** an engine knows the agent's container; false only for a repository from elsewhere */
  found: boolean;
  /** the repository is not the agent's own */
  foreign: boolean;
  project: string;
  version: string;
  state: State;
  /** directory of the journals */
  journals: string;
  /** directory of runs inside the spool */
  runs: string;
  agent: AgentContext;
  destination: SweepingDestination;
  treeStore: TreeStore;
  notifiers: Notifier[];
  now(): Date;
  plan(): Promise<Plan>;
  nextRun(plan: Plan): Date;
  repository(options?: { create: boolean }): Promise<Repository>;
  /** LOCKED when another run is under way. `patient` (the default): what the daemon looks after for a moment each minute is waited for. */
  lock(options?: { patient: boolean }): Promise<Lock>;
  holdDeps(record: HoldDeps['record']): HoldDeps;
  openTools(source: PostgresSource, context: ToolsContext): Promise<Tools>;
  /** To look at a server outside of a run, or for one that is dead. */
  openToLook(source: PostgresSource, runId: string, signal: AbortSignal): Promise<Tools>;
}

export type ToolsContext = Omit<OpenToolsOptions, 'agent' | 'source' | 'log'>;

/**
 * Finds the agent's own container. With `foreign`, also where there is no engine: files can be brought to a directory all
 * the same.
 *
 * Errors: ENGINE_UNREACHABLE, AGENT_NOT_IN_CONTAINER; with `foreign` USAGE, SNAPSHOT_UNKNOWN.
 */
export async function layGround(base: { settings: Settings; log: Log }, foreign?: Foreign): Promise<Ground> {
  const { log } = base;
  const settings = foreign ? { ...base.settings, destination: foreign.directory } : base.settings;
  const engine = createEngine({ log });
  const found = await findSelf(engine).catch((error: unknown) => {
    if (!foreign) throw error;
  });
  const self = found ?? (await offlineSelf());
  const destination = openDestination(settings);
  const stored = foreign && (await projectIn(destination, foreign.project, self.facts.project));
  const project = self.facts.project || !stored ? projectOf(self, settings) : stored;
  const state = openState(path.join(SPOOL, 'state'));
  const { id, imageId } = self.facts;
  const { stallTimeoutMs } = settings;
  const agent = { engine, id, project, spoolMount: spoolMountOf(self), stallTimeoutMs };
  const now = () => new Date();
  const helper = helperSettings(settings);
  const open = (source: PostgresSource, context: ToolsContext) => openTools({ agent, source, log, ...context });
  return {
    settings,
    log,
    engine,
    self,
    found: found !== undefined,
    foreign: foreign !== undefined,
    project,
    version: readVersion(),
    state,
    journals: path.join(state.directory, 'runs'),
    runs: path.join(SPOOL, 'runs'),
    agent,
    destination,
    treeStore: createTreeStore({
      engine,
      log,
      project,
      destination,
      agent: { id, imageId },
      helperEnv: helper.open,
      helperSecrets: helper.secret,
      stallTimeoutMs,
    }),
    notifiers: createNotifiers(settings, project),
    now,
    plan: () => planNow(engine, self, project, settings),
    nextRun: (plan) => nextRunOf(plan, settings.schedule, settings.timeZone, now()),
    async repository(options = { create: true }) {
      const mistaken = destinationError(settings.destination, self.facts.mounts, options.create);
      if (mistaken) throw mistaken;
      return openRepository(destination, { project: stored ?? project, ...options });
    },
    lock: ({ patient } = { patient: true }) =>
      withPatience(patient ? LOCK_PATIENCE_MS : 0, () =>
        found ? takeRunLock({ engine, project, agent: { id, imageId }, log }) : takeLock(project),
      ),
    holdDeps: (record) => ({ engine, record, log, patienceMs: patienceOf(self.facts.stopTimeout) }),
    openTools: open,
    openToLook: (source, runId, signal) =>
      open(source, {
        runId,
        application: applicationName(project, runId),
        recordHelper: () => undefined,
        signal,
      }),
  };
}

async function withPatience(ms: number, take: () => Promise<Lock>): Promise<Lock> {
  const end = performance.now() + ms;
  for (;;) {
    try {
      return await take();
    } catch (error) {
      if (!(error instanceof LifeboatError && error.code === 'LOCKED') || performance.now() > end) throw error;
      await sleep(LOCK_RETRY_MS);
    }
  }
}
