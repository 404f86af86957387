import path from 'node:path';
import type { Log } from '../base/log.ts';
import { readVersion } from '../base/version.ts';
import type { CopyPlace } from '../copy/context.ts';
import { nextRunOf } from '../daemon/daemon.ts';
import type { SweepingDestination } from '../destinations/destination.ts';
import { createEngine, type Engine } from '../docker/engine.ts';
import { isRunning } from '../docker/marker.ts';
import type { Notifier } from '../notify/notifier.ts';
import type { Plan, PostgresSource } from '../plan/model.ts';
import type { Settings } from '../plan/settings.ts';
import { type Lock, takeLock } from '../run/process-lock.ts';
import { type HoldDeps, patienceOf } from '../run/release.ts';
import { takeRunLock, withPatience } from '../run/run-lock.ts';
import { openState, type State } from '../run/state.ts';
import { type Here, stoppedByRuns } from '../run/under-way.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import { openTools } from '../sources/postgres/server/helper-tools.ts';
import type { AgentContext, OpenToolsOptions, Tools } from '../sources/postgres/server/tools.ts';
import type { Lease } from '../store/repository/lease.ts';
import type { Repository } from '../store/repository/repository.ts';
import { checkKeys } from '../store/seal/seal.ts';
import type { TreeStore } from '../trees/runner.ts';
import { destinationError, openDestination, openElsewhere } from './destinations.ts';
import { checkInto, refuseLive, settingsFor, spoolOf } from './into-project.ts';
import { createNotifiers } from './notifiers.ts';
import { locationOf, type OtherRepository, projectIn } from './other-repository.ts';
import { findSelf, offlineSelf, type Self } from './own-container.ts';
import { type OwnRepository, ownRepository } from './own-repository.ts';
import { createPlaces, type Places, type SweepPlace } from './places.ts';
import { knownProject, planNow, projectOf, spoolMountOf } from './self.ts';
import { treeStoreAt } from './tree-store.ts';

/**
 * A run waits this long for the lock before it fails with LOCKED, milliseconds. The daemon takes the lock to look for
 * dead runs.
 */
const LOCK_PATIENCE_MS = 10_000;

/** The settings and the log, which a command needs before anything else. */
export interface Base {
  settings: Settings;
  log: Log;
  /** aborts when the process must end: requests to a server then end within seconds */
  hurry?: AbortSignal;
}

/** The shared parts of all commands: the agent's place, the things it can reach, and its memory. */
export interface Environment {
  settings: Settings;
  log: Log;
  engine: Engine;
  self: Self;
  /** an engine knows the agent's container; can be false only with `--from` */
  found: boolean;
  /** the repository is not the agent's own */
  otherRepository: boolean;
  /** the project is a copy of the agent's own, which a restore fills */
  isCopy: boolean;
  project: string;
  version: string;
  state: State;
  /** directory of the journals */
  journals: string;
  /** directory of runs inside the spool */
  runs: string;
  agent: AgentContext;
  destination: SweepingDestination;
  /** the agent's own repository, even with `--from` */
  own: Own;
  /** copies of the own repository, in the order of the settings */
  copies: CopyPlace[];
  /** opens the repository of a project at any place, see {@link Places} */
  openAt: Places['open'];
  treeStore: TreeStore;
  notifiers: Notifier[];
  now(): Date;
  plan(): Promise<Plan>;
  nextRun(plan: Plan): Date;
  repository(options?: { create: boolean }): Promise<Repository>;
  /** Opens the repository for another project in it. */
  repositoryOf(project: string): Promise<Repository>;
  /**
   * Takes the lock of the project. Throws LOCKED when another run is under way.
   *
   * `patient`, default true: waits for a moment first, because the daemon looks for dead runs under the lock each
   * minute. `ask`, default as `patient`: asks the holder to give way. Only for work that changes something, because it
   * ends a copy.
   */
  lock(options?: { patient?: boolean; ask?: boolean }): Promise<Lock>;
  /** taken while holding the lock; throws LOCKED while another agent works on the project at the destination */
  lease(repository: Repository): Promise<Lease>;
  holdDeps(record: HoldDeps['record']): HoldDeps;
  openTools(source: PostgresSource, context: ToolsContext): Promise<Tools>;
  /** Opens a server outside of a run, or for a dead run. */
  openToLook(source: PostgresSource, runId: string, signal: AbortSignal): Promise<Tools>;
}

/** The agent's own destination. */
interface Own extends Pick<OwnRepository, 'look' | 'accept'> {
  destination: SweepingDestination;
  /** By default, creates the repository in an empty place, except with `--from`. */
  repository(options?: { create: boolean }): Promise<Repository>;
  /** the place that `copy --from` fills */
  place: CopyPlace;
  /** Removes unfinished files of the project there. The caller has the lock. */
  sweep(options?: SweepPlace): Promise<void>;
}

type ToolsContext = Omit<OpenToolsOptions, 'agent' | 'source' | 'log'>;

/**
 * Finds the agent's own container and opens everything that commands share. With `from` of `otherRepository`, no engine
 * is needed, because files can be restored into a directory without one. With `into`, the engine is needed.
 *
 * @throws SETTING_INVALID for keys that cannot encrypt, ENGINE_UNREACHABLE, AGENT_NOT_IN_CONTAINER; with
 *   `otherRepository` USAGE and SNAPSHOT_UNKNOWN; with `into` also PROJECT_UNKNOWN
 */
export async function openEnvironment(base: Base, otherRepository?: OtherRepository): Promise<Environment> {
  const { log, hurry } = base;
  const { from, into } = otherRepository ?? {};
  const elsewhere = from === undefined ? undefined : locationOf(from, base.settings);
  const scoped = settingsFor(base.settings, into);
  const settings = elsewhere === undefined ? scoped : { ...scoped, destination: elsewhere };
  if (!otherRepository) await checkKeys(settings.keys);
  const engine = createEngine({ log });
  const found = await findSelf(engine).catch((error: unknown) => {
    if (!otherRepository || into !== undefined) throw error;
  });
  const self = found ?? (await offlineSelf());
  const ownDestination = openDestination(base.settings, { hurry });
  const destination = elsewhere === undefined ? ownDestination : openElsewhere(elsewhere, settings, { hurry });
  const known = knownProject(self, settings);
  const stored = otherRepository && (await projectIn(destination, otherRepository.project, known));
  if (into !== undefined) {
    await checkInto(engine, into, { ...self.facts, projects: [known, self.facts.project] });
    await refuseLive(into, { destination: ownDestination, project: known, settings: base.settings, from, log });
  }
  const project = into ?? (known || !stored ? projectOf(self, settings) : stored);
  const spool = spoolOf(into);
  const state = openState(path.join(spool, 'state'), project);
  const journals = path.join(state.directory, 'runs');
  const now = () => new Date();
  const places = createPlaces({ settings, self, project, state, log, now, hurry });
  const own = openOwn(
    { at: base.settings.destination, destination: ownDestination, create: !otherRepository },
    places,
    {
      ...{ self, project, state, log },
    },
  );
  const repository: Environment['repository'] = ({ create } = { create: true }) =>
    otherRepository
      ? places.open(settings.destination, destination, { project: stored ?? project, create })
      : own.repository({ create });
  return {
    ...{ settings, log, self, project, state, destination, now, own, repository },
    repositoryOf: (of) => places.open(settings.destination, destination, { project: of, create: false }),
    found: found !== undefined,
    otherRepository: otherRepository !== undefined,
    isCopy: into !== undefined,
    version: readVersion(),
    journals,
    runs: path.join(spool, 'runs'),
    copies: settings.copies.map(places.copy),
    lease: places.lease,
    openAt: places.open,
    notifiers: createNotifiers(settings, { project, log, directory: state.directory }),
    nextRun: (plan) => nextRunOf(plan, settings.schedule, settings.timeZone, now()),
    ...openEngineParts(engine, {
      ...{ settings, self, project, log, journals, destination, state, repository },
      hasEngine: found !== undefined,
    }),
  };
}

/**
 * Opens the agent's own repository.
 *
 * @param create whether it is created in an empty place
 */
function openOwn(
  { at, destination, create }: { at: string; destination: SweepingDestination; create: boolean },
  places: Places,
  { self, ...agent }: Pick<Environment, 'self' | 'project' | 'state' | 'log'>,
): Own {
  const mistaken = () => destinationError(at, self.facts.mounts, true);
  const own = ownRepository({ at, destination, ...agent, mistaken, openAt: places.open });
  return {
    destination,
    look: own.look,
    accept: own.accept,
    // With --from, nothing is created: an empty place may be about to be filled from the other repository.
    repository: (options = { create }) => own.open(options),
    place: { ...places.copyTo(at, destination), open: own.openAsCopy, suspects: agent.state },
    sweep: (options) => places.sweep(at, destination, options),
  };
}

/** Makes the part of the environment that needs the engine. */
function openEngineParts(
  engine: Engine,
  {
    settings,
    self,
    project,
    log,
    journals,
    destination,
    state,
    repository,
    hasEngine,
  }: Pick<
    Environment,
    'settings' | 'self' | 'project' | 'log' | 'journals' | 'destination' | 'state' | 'repository'
  > & {
    hasEngine: boolean;
  },
): Pick<Environment, 'engine' | 'agent' | 'treeStore' | 'plan' | 'lock' | 'holdDeps' | 'openTools' | 'openToLook'> {
  const { id, imageId } = self.facts;
  const { stallTimeoutMs } = settings;
  const agent = { engine, id, project, spoolMount: spoolMountOf(self), stallTimeoutMs };
  const open = (source: PostgresSource, context: ToolsContext) => openTools({ agent, source, log, ...context });
  return {
    engine,
    agent,
    treeStore: treeStoreAt({ engine, log, project, self }, settings, destination),
    plan: () => {
      const held = () => stoppedByRuns(journals, hereOf(engine, id));
      const recorded = async () => {
        const { snapshots } = await (await repository({ create: false })).snapshots();
        return snapshots.filter(({ unsigned }) => !unsigned).map(({ manifest }) => manifest);
      };
      return planNow(engine, { self, project, settings, state, recorded, held });
    },
    lock: ({ patient = true, ask = patient } = {}) =>
      withPatience(patient ? LOCK_PATIENCE_MS : 0, () =>
        hasEngine ? takeRunLock({ engine, project, agent: { id, imageId }, log }, { ask }) : takeLock(project, { ask }),
      ),
    holdDeps: (record) => {
      const patienceMs = patienceOf(self.facts.stopTimeout);
      return { engine, record, log, patienceMs, agent: self.facts };
    },
    openTools: open,
    openToLook: (source, runId, signal) =>
      open(source, { runId, application: applicationName(project, runId), recordHelper: () => undefined, signal }),
  };
}

/** Where the runs of this agent are, and which other agents run. */
export function hereOf(engine: Engine, agentId: string): Here {
  return { agentId, isRunning: (agent) => isRunning(engine, agent) };
}
