import { backup } from '../backup/backup.ts';
import type { BackupRequest } from '../backup/context.ts';
import { hasCode, LifeboatError } from '../base/errors.ts';
import { asRun, createLog, nameRun, readable, textLine } from '../base/log.ts';
import { probe, probeRun } from '../check/probe.ts';
import { type CopyRequest, copyAlone } from '../copy/alone.ts';
import { type Pruning, pruneEverywhere } from '../copy/prune-everywhere.ts';
import type { DrillingDeps } from '../daemon/drills.ts';
import { otherCommands } from '../daemon/other-commands.ts';
import { watch } from '../docker/discover.ts';
import type { DrillRequest } from '../drill/context.ts';
import type { ExportReport, ExportRequest } from '../export/export.ts';
import type { ImportReport, ImportRequest } from '../import/import.ts';
import { groupOf } from '../kept/group.ts';
import { type KeptData, listKept } from '../kept/list.ts';
import { volumePlace } from '../kept/volume-place.ts';
import { keptIn } from '../kept/volumes.ts';
import { createProgressFile } from '../overview/progress-file.ts';
import type { LimitedPlace } from '../overview/size-log.ts';
import type { Plan } from '../plan/model.ts';
import type { UnreadableSnapshot } from '../prune/forget.ts';
import type { PruneRequest } from '../prune/prune.ts';
import { createDispatcher, type Dispatcher } from '../report/dispatch.ts';
import type { DrillReport } from '../report/drill-report.ts';
import type { CopyReport, Listener, RunReport } from '../report/events.ts';
import type { Forgotten } from '../restore/all/forget-all.ts';
import type { RestoreRequest, RestoreResult } from '../restore/context.ts';
import type { InPlaceRequest } from '../restore/point/prepare-in-place.ts';
import type { PointRequest, PointResult } from '../restore/point/restore-point.ts';
import type { PointSnapshotRequest } from '../restore/point/snapshot-of-point.ts';
import type { RollbackRequest, RollbackResult } from '../restore/rollback.ts';
import { openRuns } from '../run/aside-warnings.ts';
import { takeLock } from '../run/process-lock.ts';
import { runsUnderWay, type UnderWay } from '../run/under-way.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import { daemonLock } from './daemon-lock.ts';
import { renewalRuleOf } from './destinations.ts';
import { type Base, type Environment, hereOf, openEnvironment } from './environment.ts';
import { isBusyHere } from './into-project.ts';
import type { OtherRepository } from './other-repository.ts';
import { limitedPlacesOf } from './places.ts';
import { recoverAlone, sweepsOfCopies } from './recovery.ts';
import { readSettings } from './settings.ts';
import { backupDepsOf, copyAloneDeps, pruneEverywhereDeps, restoreDepsOf } from './wiring.ts';

const ALIVE_FILE = '/run/lifeboat/alive';

/** Where and how to log. */
interface LogTarget {
  write(text: string): void;
  /** shows only the essential part of each line, whatever `LOG_FORMAT` is */
  forPeople: boolean;
  isTerminal: boolean;
}

/** Reads the settings and creates the log. Throws like {@link readSettings}. */
export function createBase(env: NodeJS.ProcessEnv, { write, forPeople, isTerminal }: LogTarget): Base {
  const settings = readSettings(env);
  const format = settings.logFormat ?? (isTerminal ? 'text' : 'json');
  const asText = forPeople ? readable : format === 'text' ? textLine : undefined;
  // The daemon names its own lines, between the runs, by this id.
  nameRun(newSnapshotId(new Date()));
  return { settings, log: createLog({ level: settings.logLevel }, asText ? (line) => write(asText(line)) : write) };
}

/** The whole program, for the commands. */
export interface App extends Environment {
  /** true while a backup, restore (also into a copy of the project), prune, copy, or recovery has its lock */
  isBusy(): Promise<boolean>;
  /** backups and restores in progress, oldest first */
  runsUnderWay(): Promise<UnderWay[]>;
  backup(request: BackupRequest, listeners?: Listener[]): Promise<RunReport>;
  /** without `source`: all sources of the project */
  restore(
    request: Omit<RestoreRequest, 'source'> & { source?: string },
    listeners?: Listener[],
  ): Promise<RestoreResult>;
  restoreToPoint(request: PointRequest): Promise<PointResult>;
  restoreInPlace(request: InPlaceRequest, listeners: readonly Listener[]): Promise<RestoreResult>;
  drill(request: DrillRequest, listeners?: Listener[]): Promise<DrillReport>;
  /** makes a snapshot of a server as it was at a point in time, and returns its id */
  snapshotOfPoint(request: PointSnapshotRequest): Promise<string>;
  export(request: ExportRequest, listeners?: Listener[]): Promise<ExportReport>;
  import(request: ImportRequest, listeners?: Listener[]): Promise<ImportReport>;
  rollback(request: RollbackRequest): Promise<RollbackResult>;
  forget(request: RollbackRequest): Promise<Forgotten>;
  listKept(plan: Plan): Promise<KeptData>;
  /** the destination and the copies, with what their storage costs */
  limitedPlaces: readonly LimitedPlace[];
  /** reads what each source of the plan holds now; see probe.ts */
  probe(plan: Plan): ReturnType<typeof probe>;
  /** `maxUnused`: instead of the setting, in a dry run */
  prune(request: PruneRequest & { maxUnused?: number }, signal: AbortSignal): Promise<Pruning[]>;
  /** gives up a snapshot whose manifest cannot be read; see forget.ts */
  forgetUnreadable(name: string): Promise<UnreadableSnapshot>;
  copy(request: CopyRequest): Promise<CopyReport[]>;
  daemon(signal: AbortSignal): Promise<void>;
}

/** Returns the recoveries to a point in time. Their code is loaded on use. */
function pointsOf(environment: Environment): Pick<App, 'restoreToPoint' | 'restoreInPlace' | 'snapshotOfPoint'> {
  const load = () => import('./point.ts');
  return {
    restoreToPoint: async (request) => (await load()).restorePoint(environment, request),
    restoreInPlace: async (request, listeners) => (await load()).restorePointInPlace(environment, request, listeners),
    snapshotOfPoint: async (request) => (await load()).snapshotPoint(environment, request),
  };
}

/** Builds the app on the environment. Fails like {@link openEnvironment}. */
export async function createApp(base: Base, otherRepository?: OtherRepository): Promise<App> {
  const environment = await openEnvironment(base, otherRepository);
  const { log, project, state, treeStore, self, journals, engine } = environment;
  const app: App = {
    ...environment,
    limitedPlaces: limitedPlacesOf(environment),
    isBusy: () => isBusyHere(project),
    runsUnderWay: () => runsUnderWay(journals, hereOf(engine, self.facts.id)),
    backup: (request, listeners = []) =>
      asRun(() => backup(backupDepsOf(environment, dispatcherOf(environment, listeners)), request)),
    // Loaded on use, so that a backup starts without them.
    restore: async (request, listeners) => {
      const deps = restoreDepsOf(environment, listeners);
      return request.source === undefined
        ? (await import('../restore/all/restore-all.ts')).restoreAll(deps, { ...request, source: '' })
        : (await import('../restore/restore.ts')).restore(deps, { ...request, source: request.source });
    },
    ...pointsOf(environment),
    drill: async (request, listeners) => {
      const { runDrill } = await import('./drill.ts');
      return asRun(() => runDrill(environment, request, listeners));
    },
    export: async (request, listeners = []) => {
      const repository = () => environment.repository({ create: false });
      const dispatcher = createDispatcher(listeners, { log });
      return (await import('../export/export.ts')).exportSource({ ...environment, repository, dispatcher }, request);
    },
    import: async (request, listeners = []) => {
      const { importDepsOf } = await import('./import-wiring.ts');
      return (await import('../import/import.ts')).importArchive(importDepsOf(environment, listeners), request);
    },
    rollback: async (request) => {
      const deps = restoreDepsOf(environment);
      const { rollbackAll } = await import('../restore/all/rollback-all.ts');
      const group = groupOf(await state.rollbacks(), request);
      return group === undefined
        ? (await import('../restore/rollback.ts')).rollback(deps, request)
        : rollbackAll(deps, request, group);
    },
    forget: async (request) =>
      (await import('../restore/all/forget-all.ts')).forgetData(restoreDepsOf(environment), request),
    listKept: (plan) => listKeptData(environment, plan),
    probe: (of) =>
      probe(of, {
        ...{ project, treeStore, state, agentMounts: self.facts.mounts },
        openTools: (source, context) => app.openTools(source, { ...context, recordHelper: () => undefined }),
      }),
    prune: (request, signal) => pruneAll(environment, request, signal),
    forgetUnreadable: async (name) =>
      (await import('../prune/forget.ts')).forgetUnreadable({ ...pruneEverywhereDeps(environment), state }, name),
    copy: (request) => copyAlone(copyAloneDeps(environment), request),
    daemon: (signal) => runDaemon(environment, app, signal),
  };
  return app;
}

/** Returns the dispatcher of a backup. With a page, its progress goes into a file, for the page of the daemon. */
function dispatcherOf({ settings, state, notifiers, log }: Environment, listeners: readonly Listener[]): Dispatcher {
  const watched = settings.http ? [createProgressFile(state.directory)] : [];
  return createDispatcher([...notifiers, ...listeners, ...watched], { log });
}

/** Lists the data that restores put aside. */
function listKeptData(environment: Environment, plan: Plan): Promise<KeptData> {
  const { state, treeStore, self, journals } = environment;
  return listKept(
    { state, plan: async () => plan, open: () => openRuns(journals) },
    (source, signal) => environment.openToLook(source, probeRun(), signal),
    ({ mount }, signal, known) =>
      keptIn(treeStore, volumePlace(mount, self.facts.mounts), { runId: probeRun(), signal }, known),
  );
}

function drillingOf(environment: Environment, app: App): DrillingDeps {
  const { settings, state } = environment;
  return {
    settings: settings.drill,
    drill: async (until) => app.drill((await import('./drill.ts')).scheduledDrill(until)),
    overdue: async (since) => (await import('./drill.ts')).overdueDrills(environment, since),
    stored: async () => {
      const last = await state.lastRun();
      return last?.snapshot === undefined ? undefined : new Date(last.end);
    },
    reportUnbegun: async (cause) => {
      const { reportUnbegunDrill } = await import('./drill.ts');
      await asRun(() => reportUnbegunDrill(environment, cause));
    },
  };
}

async function runDaemon(environment: Environment, app: App, signal: AbortSignal): Promise<void> {
  const { state, log, now, settings, journals, engine, plan } = environment;
  const [{ daemon }, { everyMinute }, { createReceivers }, { createLetterWatch, openAlarms, watchTargets }] =
    await Promise.all([
      import('../daemon/daemon.ts'),
      import('../daemon/every-minute.ts'),
      import('./receivers.ts'),
      import('./targets.ts'),
    ]);
  const { serveHttp } = await import('./http.ts');
  const only = await takeLock(daemonLock(environment.project)).catch((cause: unknown) => {
    if (!hasCode(cause, 'LOCKED')) throw cause;
    const hint = 'The Lifeboat container runs it already. To back up now, run `lifeboat backup`.';
    throw new LifeboatError('LOCKED', 'another daemon of this project runs', { cause, hint });
  });
  const alarms = openAlarms(environment);
  for (const notifier of environment.notifiers) notifier.resume?.(signal);
  const served = await serveHttp(environment, app);
  const sweepCopies = sweepsOfCopies(environment);
  let swept = sweepCopies();
  await daemon(
    {
      ...{ state, log, now, journals, plan, alarms },
      zone: settings.timeZone,
      copies: settings.copies.map(({ name }) => name),
      schedule: settings.schedule,
      aliveFile: ALIVE_FILE,
      backup: app.backup,
      recover: () => recoverAlone(environment),
      isBusy: app.isBusy,
      others: () => otherCommands(process.argv[1] ?? ''),
      watch: (onChange, until) => watch(engine, { onChange, log, signal: until }),
      everyMinute: (tick) =>
        everyMinute(() => {
          served.tick();
          swept = sweepCopies();
          return tick();
        }),
      drills: drillingOf(environment, app),
      receivers: createReceivers(environment, app.backup, alarms),
      watches: [watchTargets(environment, alarms), ...createLetterWatch(environment)],
    },
    signal,
  ).finally(async () => {
    await Promise.all([alarms.flush(), served.close(), swept]);
    await only.release();
  });
}

/** Prunes all places. A dry run also returns what the next backup would store again. */
function pruneAll(
  environment: Environment,
  { maxUnused, ...request }: PruneRequest & { maxUnused?: number },
  signal: AbortSignal,
): Promise<Pruning[]> {
  const renewal = request.dryRun ? { renewal: renewalRuleOf(environment.settings, maxUnused) } : {};
  return pruneEverywhere(pruneEverywhereDeps(environment), { ...request, ...renewal }, signal);
}
