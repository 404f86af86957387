import path from 'node:path';
import type { ErrorInfo } from '../base/errors.ts';
import type { Accepted } from '../plan/accepted.ts';
import type { Problem, VolumeSource } from '../plan/model.ts';
import { appendRun } from '../record/run-log.ts';
import type { RunReport } from '../report/events.ts';
import type { PendingRetry } from '../report/tries.ts';
import type { KnownArea, PendingArea } from '../store/exchange/known-area.ts';
import type { LeaseSighting, LeaseSightings } from '../store/repository/lease-seen.ts';
import type { KnownRepository } from '../store/repository/repository-info.ts';
import type { SeenChain } from '../store/repository/seen-chain.ts';
import { openSourceCaches, type SourceCaches } from './document-caches.ts';
import { type LastResult, resultsOf } from './source-status.ts';
import { forget, openHome, readJson, writeJson } from './state-files.ts';

/** A database whose data from before a restore is kept. */
export interface KeptDatabase {
  name: string;
  /** the name of the kept data */
  before: string;
  /** oid in pg_database of the data from before the restore; it stays the same when the database is renamed */
  oid?: string;
}

/** A restore whose replaced data still exists. Each rollback exchanges the names of the databases. */
export interface Rollback {
  /** of the restore */
  id: string;
  /** id of the restore of all sources that it belongs to, if any */
  group?: string;
  /** ISO time of the restore */
  at: string;
  /** the source whose data was replaced */
  source: string;
  snapshot: string;
  /** the data in use: the restored data, or the data from before */
  inUse: 'restored' | 'before';
  /** the safety snapshot of the replaced data, if one was taken */
  safety?: string;
  /** for databases: their names, and the names of the data that is not in use */
  databases?: KeptDatabase[];
  /** for a volume: the directory with the data that is not in use */
  volume?: KnownArea | PendingArea;
  /** for the data directory of a server: where it is, also while the server does not start */
  dataDirectory?: VolumeSource;
  /** what the restore, or its group, filled without replacing data */
  created?: string[];
}

/** The state of a copy of the repository. */
export interface CopyState {
  /** ISO time when it last equalled the destination, if ever */
  complete?: string;
  /** ISO time when it was created, or first recognised as a copy */
  made?: string;
  /** ISO time since when it has been behind; absent if it is complete */
  behindSince?: string;
  error?: ErrorInfo;
  /** the highest sequence of a snapshot that it was ever seen to have */
  highest?: number;
  /** another name that last led to the same place: of a copy, or of the destination */
  sameAs?: string;
  /** problems of the last update that did not keep it from being complete */
  problems?: Problem[];
}

/** The agent's memory between runs, as small JSON files in its state directory. Losing it loses no backup. */
export interface State extends LeaseSightings, SourceCaches {
  readonly directory: string;
  /** the id of this memory, created by the first call */
  home(): Promise<string>;
  /** the repository that the agent backs up to, and its last place; undefined before the first one was opened */
  repository(): Promise<KnownRepository | undefined>;
  /**
   * Saves the repository. Forgets acceptances and checks of another one, because they refer to its chain and objects.
   */
  saveRepository(known: Required<KnownRepository>): Promise<void>;
  /** snapshots of a project seen at the destination and not removed, oldest first; undefined before the first run */
  chain(project: string): Promise<SeenChain | undefined>;
  /** undefined forgets them: the next run takes what is there */
  saveChain(project: string, seen: SeenChain | undefined): Promise<void>;
  /** the highest sequence of snapshots that somebody accepted as lost; 0: none. Copies may still have them */
  abandoned(project: string): Promise<number>;
  /** Saves the sequence, unless a higher one is saved. */
  saveAbandoned(project: string, sequence: number): Promise<void>;
  /** the highest sequence that a copy may have, although the destination does not; 0: none is known */
  taken(project: string): Promise<number>;
  /** Saves the sequence, unless a higher one is saved. */
  saveTaken(project: string, sequence: number): Promise<void>;
  /** the last run that ended, whatever its outcome */
  lastRun(): Promise<RunReport | undefined>;
  /** `own`: the report of this try alone, if `report` covers earlier tries too */
  saveLastRun(report: RunReport, own?: RunReport): Promise<void>;
  /** the newest result of every source by name, as saved with {@link saveLastRun} */
  results(): Promise<Record<string, LastResult>>;
  /** when each schedule was last served (ISO time by cron expression) */
  served(): Promise<Record<string, string>>;
  saveServed(served: Record<string, string>): Promise<void>;
  /** scheduled runs that will be retried for the sources that failed */
  retries(): Promise<PendingRetry[]>;
  saveRetries(retries: readonly PendingRetry[]): Promise<void>;
  /** sources whose absence or emptiness a person has accepted, by name */
  accepted(): Promise<Accepted>;
  saveAccepted(accepted: Accepted): Promise<void>;
  /** keys of objects that `check` found damaged; runs store their content again instead of reusing them */
  damaged(): Promise<string[]>;
  saveDamaged(keys: readonly string[]): Promise<void>;
  /** the state of each copy, by its name */
  copies(): Promise<Record<string, CopyState>>;
  saveCopies(copies: Readonly<Record<string, CopyState>>): Promise<void>;
  /** restores that can be rolled back, oldest first */
  rollbacks(): Promise<Rollback[]>;
  /** false if {@link rollbacks} were never saved, or are lost */
  hasRollbacks(): Promise<boolean>;
  saveRollbacks(rollbacks: readonly Rollback[]): Promise<void>;
  /** the object after which the next partial `check` continues */
  checkedTo(): Promise<string | undefined>;
  saveCheckedTo(key: string | undefined): Promise<void>;
}

/** Files that refer to one repository: to its chain and its objects. */
const CHAIN = 'chain.json';
const ABANDONED = 'abandoned.json';
const TAKEN = 'taken.json';
const OF_ONE_REPOSITORY = ['accepted.json', 'damaged.json', 'checked.json', ABANDONED, TAKEN, CHAIN];

/**
 * Opens the state between runs.
 *
 * @param project the Compose project; after it was renamed, the results of runs under its former name do not count
 */
export function openState(directory: string, project?: string): State {
  const file = (name: string) => path.join(directory, name);
  const record = (name: string) => readJson<Record<string, string>>(file(name)).then((value) => value ?? {});
  const { lastRun, results } = openResults(file, project);
  const sightings = async () => (await readJson<Record<string, LeaseSighting>>(file('leases.json'))) ?? {};
  return {
    directory,
    home: () => openHome(file('home.json')),
    async repository() {
      const known = await readJson<KnownRepository>(file('repository.json'));
      if (known) return known;
      // An older version did not save this. If it has stored something, an empty destination is not a new one.
      return Object.values(await results()).some(({ status }) => status !== 'failed') ? {} : undefined;
    },
    async saveRepository(known) {
      const before = await readJson<KnownRepository>(file('repository.json'));
      // Before the new id is saved, so that the next call repeats it after a crash.
      if (before?.info && before.info.id !== known.info.id) await forget(OF_ONE_REPOSITORY.map(file));
      await writeJson(file('repository.json'), known);
    },
    leaseSighting: async (place) => (await sightings())[place],
    async saveLeaseSighting(place, sighting) {
      await writeJson(file('leases.json'), { ...(await sightings()), [place]: sighting });
    },
    lastRun,
    async saveLastRun(report, own = report) {
      await writeJson(file('results.json'), { ...(await results()), ...resultsOf(own) });
      await writeJson(file('last-run.json'), report);
      await appendRun(directory, own).catch(() => undefined);
    },
    results,
    served: () => record('served.json'),
    saveServed: (served) => writeJson(file('served.json'), served),
    retries: () => readJson<PendingRetry[]>(file('retries.json')).then((value) => value ?? []),
    saveRetries: (retries) => writeJson(file('retries.json'), retries),
    accepted: async () => (await readJson<Accepted>(file('accepted.json'))) ?? {},
    saveAccepted: (accepted) => writeJson(file('accepted.json'), accepted),
    damaged: () => readJson<string[]>(file('damaged.json')).then((value) => value ?? []),
    saveDamaged: (keys) => writeJson(file('damaged.json'), keys),
    copies: async () => (await readJson<Record<string, CopyState>>(file('copies.json'))) ?? {},
    saveCopies: (copies) => writeJson(file('copies.json'), copies),
    rollbacks: () => readJson<Rollback[]>(file('rollbacks.json')).then((value) => value ?? []),
    hasRollbacks: async () => (await readJson(file('rollbacks.json'))) !== undefined,
    saveRollbacks: (rollbacks) => writeJson(file('rollbacks.json'), rollbacks),
    checkedTo: () => readJson<{ key?: string }>(file('checked.json')).then((value) => value?.key),
    saveCheckedTo: (key) => writeJson(file('checked.json'), { key }),
    ...openChains(file),
    ...openSourceCaches(directory),
  };
}

/** Opens the results of runs. */
function openResults(file: (name: string) => string, project: string | undefined): Pick<State, 'lastRun' | 'results'> {
  const newest = () => readJson<RunReport>(file('last-run.json'));
  const isOwn = (report: RunReport) => project === undefined || report.project === project;
  return {
    async lastRun() {
      const last = await newest();
      return last && isOwn(last) ? last : undefined;
    },
    async results() {
      const last = await newest();
      if (last && !isOwn(last)) return {};
      return (await readJson<Record<string, LastResult>>(file('results.json'))) ?? {};
    },
  };
}

type Chains = Pick<State, 'chain' | 'saveChain' | 'abandoned' | 'saveAbandoned' | 'taken' | 'saveTaken'>;

/** Opens what the agent knows of the chain of each project. */
function openChains(file: (name: string) => string): Chains {
  const chains = async () => (await readJson<Record<string, SeenChain>>(file(CHAIN))) ?? {};
  const sequences = async (name: string) => (await readJson<Record<string, number>>(file(name))) ?? {};
  const save = (name: string) => async (project: string, sequence: number) => {
    const all = await sequences(name);
    if (sequence > (all[project] ?? 0)) await writeJson(file(name), { ...all, [project]: sequence });
  };
  return {
    chain: async (project) => (await chains())[project],
    async saveChain(project, seen) {
      const { [project]: _, ...others } = await chains();
      await writeJson(file(CHAIN), seen ? { ...others, [project]: seen } : others);
    },
    abandoned: async (project) => (await sequences(ABANDONED))[project] ?? 0,
    saveAbandoned: save(ABANDONED),
    taken: async (project) => (await sequences(TAKEN))[project] ?? 0,
    saveTaken: save(TAKEN),
  };
}
