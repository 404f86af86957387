import type { ErrorInfo } from '../base/errors.ts';
import { type Accepted, coversLoss, endsFailure, isAccepted } from '../plan/accepted.ts';
import type { Plan, PlannedSource, StoppedDatabase } from '../plan/model.ts';
import { isFuture } from '../plan/values/clock.ts';
import { previousRun } from '../plan/values/schedule.ts';
import type { RunReport, RunStatus } from '../report/events.ts';
import type { Fall } from '../report/fall.ts';
import { storesPast } from '../report/trigger.ts';
import { documentsOfEntry, type Manifest } from '../store/objects/manifest.ts';
import { lastWithDatabase, missingDatabases } from '../store/repository/stored-databases.ts';
import { type LastGood, lastGoodOf, type VanishedSource, vanishedSources } from './history.ts';

/**
 * The status of each source by its own newest result. The last run alone is not enough, because it may cover only some
 * sources.
 */

/** The newest result of a source, whether or not its run stored anything. */
export interface LastResult {
  /** id of the run */
  run: string;
  /** ISO time of the run's end */
  at: string;
  status: RunStatus;
  error?: ErrorInfo;
  /** sequence at the end of the chain when the run began; the run's own snapshot has a higher one */
  after?: number;
}

/**
 * Why a source needs attention. `late`: two of its scheduled times have passed since its last good backup. `never`: no
 * run has covered it yet, or a user has accepted that it is empty, and no run has stored it yet. `vanished`: snapshots
 * hold it, the plan lacks it, and nobody accepted that. `fell`: it is stored, but has lost data since the snapshot
 * before, and nobody accepted that. `ahead`: its good backup is dated in the future, so its age is unknown. `damaged`:
 * its last good snapshot needs an object that a check found damaged.
 */
export type Attention = 'failed' | 'partial' | 'late' | 'never' | 'vanished' | 'fell' | 'ahead' | 'damaged';

export interface SourceStatus {
  name: string;
  attention: Attention | null;
  last?: LastResult;
  lastGood?: LastGood;
  /** databases that its newest snapshot lacks, each with the last snapshot that holds it */
  missing?: { database: string; lastGood?: { snapshot: string; at: string } }[];
  /** the container of a vanished database that exists and does not run */
  stopped?: StoppedDatabase;
  /** for a vanished source, see {@link VanishedSource} */
  renamed?: NonNullable<VanishedSource['renamed']>;
  /** a loss that nobody has accepted */
  fell?: Fall;
}

export interface SourceStatusInput {
  plan: Plan;
  /** newest first */
  manifests: readonly Manifest[];
  /** the results of runs in the state, including runs that stored nothing */
  results: Readonly<Record<string, LastResult>>;
  accepted: Accepted;
  /** where the data of each source was, see {@link vanishedSources} */
  places?: Readonly<Record<string, string>>;
  /** keys of objects that `check` found damaged, and of the lists that name one of them, see `withListsOf` */
  damaged?: readonly string[];
  zone: string;
  now: Date;
}

/** Returns the result of each source of a run. A run that failed as a whole failed for each of its sources. */
export function resultsOf(report: RunReport): Record<string, LastResult> {
  const base = { run: report.id, at: report.end, ...(report.after === undefined ? {} : { after: report.after }) };
  const results: Record<string, LastResult> = {};
  // With a snapshot, the manifest has their results.
  if (report.error && report.snapshot === undefined) {
    for (const name of report.sources) results[name] = { ...base, status: 'failed', error: report.error };
  }
  for (const { name, status, error } of report.results) {
    const stored = status === 'failed' || report.status !== 'failed';
    const why = error ?? (stored ? undefined : report.error);
    results[name] = { ...base, status: stored ? status : 'failed', ...(why ? { error: why } : {}) };
  }
  return results;
}

/** Returns the status of every planned source and every vanished one, sorted by name. */
export function listSourceStatuses(input: SourceStatusInput): SourceStatus[] {
  const { plan, results, accepted } = input;
  // An import holds old data. It ends no outage, and says nothing about the source now.
  const manifests = input.manifests.filter(({ trigger }) => !storesPast(trigger));
  const planned = plan.sources.map((source): SourceStatus => {
    const { name } = source;
    const last = newest(lastInManifests(manifests, name), results[name]);
    const lastGood = lastGoodOf(manifests, name);
    const fell = unacceptedFall(manifests, name, accepted[name]);
    const attention = judge(input, source, last, lastGood) ?? needsDamaged(input, lastGood) ?? (fell ? 'fell' : null);
    return {
      name,
      attention,
      ...(last ? { last } : {}),
      ...(lastGood ? { lastGood } : {}),
      ...missingIn(manifests, name, last),
      ...(fell ? { fell } : {}),
    };
  });
  const vanished = vanishedSources(manifests, plan, input).map(({ name, kind: _, ...vanished }): SourceStatus => {
    const last = newest(lastInManifests(manifests, name), results[name]);
    return { name, attention: 'vanished', ...(last ? { last } : {}), ...vanished };
  });
  return [...planned, ...vanished].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function judge(
  { zone, now, accepted }: SourceStatusInput,
  { name, schedule }: Pick<PlannedSource, 'name' | 'schedule'>,
  last: LastResult | undefined,
  lastGood: LastGood | undefined,
): Attention | null {
  if (!last) return 'never';
  const isAccepted = last.status !== 'ok' && endsFailure(accepted[name], last);
  if (last.status !== 'ok' && !isAccepted) return last.status;
  if (lastGood && isFuture(Date.parse(lastGood.at), now.getTime())) return 'ahead';
  const lastTime = previousRun(schedule, zone, now);
  const timeBefore = previousRun(schedule, zone, new Date(lastTime.getTime() - 1));
  const isRecent = (at: string) => Date.parse(at) >= timeBefore.getTime();
  // Its next run stores it as it is.
  if (isAccepted && !lastGood && isRecent(last.at)) return 'never';
  return lastGood && isRecent(lastGood.at) ? null : 'late';
}

/** Returns `damaged` if the last good snapshot of a source needs an object that a check found damaged. */
function needsDamaged({ damaged = [] }: SourceStatusInput, lastGood: LastGood | undefined): Attention | null {
  if (!lastGood || damaged.length === 0) return null;
  const known = new Set(damaged);
  return documentsOfEntry(lastGood.entry).some(({ key }) => known.has(key)) ? 'damaged' : null;
}

/**
 * Returns the first loss of a source that nobody has accepted. After several losses, such as when a server was created
 * again twice, the snapshots between them may be empty.
 */
export function unacceptedFall(
  manifests: readonly Manifest[],
  name: string,
  accepted: Accepted[string] | undefined,
): Fall | undefined {
  const known = new Set(manifests.map(({ id }) => id));
  return manifests
    .filter((manifest) => !coversLoss(accepted, 'fall') || !isAccepted(accepted, manifest))
    .flatMap(({ end, sources }): Fall[] => {
      const { since, why = [] } = sources[name]?.fell ?? {};
      return since !== undefined && known.has(since) ? [{ since, why, at: end }] : [];
    })
    .at(-1);
}

/** A result, with the sequence of its snapshot in the chain. */
interface InChain {
  result: LastResult;
  sequence: number;
}

function lastInManifests(manifests: readonly Manifest[], name: string): InChain | undefined {
  for (const { id, sequence, end, sources } of manifests) {
    const entry = sources[name];
    if (!entry) continue;
    const error = entry.error ? { error: entry.error as ErrorInfo } : {};
    return { result: { run: id, at: end, status: entry.status, ...error, after: sequence - 1 }, sequence };
  }
  return undefined;
}

/**
 * Returns the newer of the stored and the remembered result. The chain decides if it is known, so a clock that was
 * ahead hides no failure.
 */
function newest(stored: InChain | undefined, known: LastResult | undefined): LastResult | undefined {
  if (!stored || !known || stored.result.run === known.run) return stored?.result ?? known;
  const isKnownNewer = known.after === undefined ? known.run > stored.result.run : known.after >= stored.sequence;
  return isKnownNewer ? known : stored.result;
}

/** Returns the error of a partial result. */
function missingIn(
  manifests: readonly Manifest[],
  name: string,
  last: LastResult | undefined,
): Pick<SourceStatus, 'missing'> {
  const entry = manifests.find(({ id }) => id === last?.run)?.sources[name];
  const missing = entry ? missingDatabases(entry) : [];
  if (missing.length === 0) return {};
  return {
    missing: missing.map(({ name: database }) => {
      const found = lastWithDatabase(manifests, name, database);
      return { database, ...(found ? { lastGood: { snapshot: found.snapshot, at: found.at } } : {}) };
    }),
  };
}
