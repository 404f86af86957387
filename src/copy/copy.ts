import { aborted } from '../base/abort.ts';
import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { until } from '../destinations/until.ts';
import { withAlive } from '../destinations/with-alive.ts';
import type { KeepPolicy, Plan } from '../plan/model.ts';
import { isCopyOk } from '../report/copy-text.ts';
import type { CopyReport, Pruned } from '../report/events.ts';
import type { CopyState, State } from '../run/state.ts';
import { patiently, watched } from '../run/watchdog.ts';
import { refuseEmptied } from '../store/repository/emptied.ts';
import type { Lease } from '../store/repository/lease.ts';
import { readPins } from '../store/repository/pins.ts';
import type { Repository } from '../store/repository/repository.ts';
import { tombstoneIds } from '../store/repository/tombstones.ts';
import { behindSince, type CopyStep } from './plan.ts';
import { DESTINATION, SamePlace } from './same-place.ts';
import { bringUpToDate, type Side } from './steps.ts';

/** A place of a copy. */
export interface CopyPlace {
  /** the location without its options */
  name: string;
  /** absent: that of the destination */
  keep?: KeepPolicy;
  /** what is pinned there stays so */
  keepsPins?: true;
  /** The repository there, as a copy of `main`; DEST_FOREIGN for another one. With `create` an empty place becomes one. */
  open(main: Repository, options: { create: boolean; signal?: AbortSignal }): Promise<Repository>;
  /** Nothing is stored there so far. Rejects when the place does not answer, or cannot hold a copy by what is mounted. */
  isEmpty(signal: AbortSignal): Promise<boolean>;
  lease(repository: Repository): Promise<Lease>;
  /** removes unfinished objects of the project; to be called with the lease held */
  sweep(signal?: AbortSignal): Promise<void>;
}

/** What copying works with. */
export interface CopyDeps {
  copies: readonly CopyPlace[];
  /** what is copied; nobody removes anything there meanwhile */
  main(): Promise<Repository>;
  /** of the destination; a place that has it is the destination itself. Absent: not looked at */
  lease?: Pick<Lease, 'token'>;
  plan: Plan;
  /** LIFEBOAT_KEEP */
  keep: KeepPolicy;
  state: Pick<State, 'accepted' | 'results' | 'copies' | 'saveCopies' | 'damaged' | 'saveDamaged' | 'abandoned'>;
  zone: string;
  now(): Date;
  log: Log;
  stallTimeoutMs: number;
  /** removes what a copy that is complete need not keep; absent: nothing is removed */
  prune?(place: CopyPlace, repository: Repository, fence: Lease['fence'], signal: AbortSignal): Promise<Pruned>;
  /** hears how many bytes a copy has got, and of how many */
  progress?(copy: string, done: number, total: number): void;
  signal: AbortSignal;
}

/**
 * Brings all copies up to date, side by side, each for itself: the snapshots that its own retention keeps and that it lacks, the
 * oldest first, each whole before the next. Never rejects: what goes wrong is in the report of each, and remembered.
 */
export async function copyAll(deps: CopyDeps): Promise<CopyReport[]> {
  const main = readSide(deps);
  main.catch(() => undefined);
  const before = await deps.state.copies().catch((): Record<string, CopyState> => ({}));
  const bad = new Set<string>();
  const opened = new Set<string>();
  const same = new SamePlace(Object.fromEntries(deps.copies.map(({ name }) => [name, before[name] ?? {}])));
  same.add(DESTINATION, deps.lease);
  const looks = deps.copies.map(() => Promise.withResolvers<void>());
  const all = Promise.all(looks.map(({ promise }) => promise));
  const reports = await Promise.all(
    deps.copies.map((place, i) => {
      const looked = { one: () => looks[i]?.resolve(), all };
      const one = { place, main, bad, same, looked, opened, before: before[place.name] };
      return copyOne(deps, one).finally(looked.one);
    }),
  );
  const alias = reports.find(({ name }) => name === same.otherNameOf(DESTINATION));
  if (alias) {
    alias.isDestination = true;
    deps.log.warn('nothing is removed from the destination', { ...errorInfo(same.reasonToKeep(DESTINATION)) });
  }
  const states = reports.map(({ name, status, behindSince: since, error, problems }): [string, CopyState] => {
    const complete = status === 'ok' ? deps.now().toISOString() : before[name]?.complete;
    const made = before[name]?.made ?? (opened.has(name) ? deps.now().toISOString() : undefined);
    const behind = since === undefined ? {} : { behindSince: since, ...(error ? { error } : {}) };
    const sameAs = same.otherNameOf(name);
    const times = { ...(complete === undefined ? {} : { complete }), ...(made === undefined ? {} : { made }) };
    const known = { ...times, ...(sameAs === undefined ? {} : { sameAs }) };
    return [name, { ...known, ...behind, ...(problems ? { problems } : {}) }];
  });
  try {
    await deps.state.saveCopies(Object.fromEntries(states));
    // The next backup stores anew what they held.
    if (bad.size > 0) await deps.state.saveDamaged([...new Set([...(await deps.state.damaged()), ...bad])]);
  } catch (error) {
    deps.log.warn('how the copies stand could not be kept', { ...errorInfo(error) });
  }
  return reports;
}

async function readSide(deps: CopyDeps): Promise<Side> {
  const repository = await deps.main();
  const list = await repository.snapshots(deps.signal);
  await refuseEmptied(repository, list.snapshots, new Set());
  return { repository, ...list, pins: await readPins(repository), removed: await tombstoneIds(repository) };
}

interface One {
  place: CopyPlace;
  main: Promise<Side>;
  before: CopyState | undefined;
  /** names of the copies that could be opened */
  opened: Set<string>;
  /** objects of the destination that are found to be damaged */
  bad: Set<string>;
  /** knows the destination and the copies that are under way, or done */
  same: SamePlace;
  /** `one`: to be called when it is known whether this place is another one too; `all`: it is known of every copy */
  looked: { one(): void; all: Promise<unknown> };
}

async function copyOne(
  deps: CopyDeps,
  { place, main, before, bad, opened: names, same, looked }: One,
): Promise<CopyReport> {
  const { name } = place;
  const report: CopyReport = { name, status: 'ok', snapshots: 0, objects: 0, bytes: 0 };
  const lacking = new Set<CopyStep>();
  try {
    await watched({ ...limits(deps, name), signal: deps.signal }, async (signal, alive) => {
      const side = await main;
      const opened = await openCopy(place, side.repository, before, signal);
      // Not heard: its timer is no sign of life.
      await withLease({
        place,
        repository: opened,
        same,
        watch: { signal, alive },
        work: async ({ fence }) => {
          looked.one();
          names.add(name);
          const repository = opened.through(withAlive(until(opened.destination, signal), alive));
          await place.sweep(signal);
          const copying = { place, main: side, repository, report, bad, lacking, fence, signal, alive };
          const done = await bringUpToDate(deps, copying);
          if (done.problems.length > 0) report.problems = done.problems;
          if (done.error) Object.assign(report, { status: 'partial', error: errorInfo(done.error) });
          // What the destination lost may exist only here.
          else if (deps.prune && isCopyOk(report) && (await isKnown(looked.all, signal, alive))) {
            const pruned = async () => {
              const reason = same.reasonToKeep(name);
              if (reason) throw reason;
              return deps.prune?.(place, repository, fence, signal);
            };
            await pruneCopy(deps, report, pruned);
          }
        },
      });
    });
  } catch (error) {
    const why = errorInfo(deps.signal.aborted ? deps.signal.reason : error);
    Object.assign(report, { status: 'failed', error: why });
  }
  if (report.status === 'ok') {
    const { snapshots, objects, bytes } = report;
    deps.log.info('a copy is up to date', { copy: name, snapshots, objects, bytes });
    return report;
  }
  const newest = await main.then(({ snapshots }) => snapshots[0]?.manifest.end).catch(() => undefined);
  report.behindSince = behindSince(lacking) ?? before?.behindSince ?? newest ?? deps.now().toISOString();
  deps.log.warn('a copy is behind', { copy: name, since: report.behindSince, ...report.error });
  return report;
}

/** One that was there is never made again by itself: what is empty now is a mount that is missing, or was emptied by somebody. */
async function openCopy(
  place: CopyPlace,
  main: Repository,
  before: CopyState | undefined,
  signal: AbortSignal,
): Promise<Repository> {
  const { complete, made } = before ?? {};
  if (complete === undefined && made === undefined) return place.open(main, { create: true, signal });
  return place.open(main, { create: false, signal }).catch((error: unknown) => {
    if (!hasCode(error, 'DEST_FOREIGN')) throw error;
    const { code, message, hint, cause } = error;
    const was = complete === undefined ? `it was begun at ${made}` : `it was complete at ${complete}`;
    throw new LifeboatError(code, `${message}; ${was}`, { cause, ...(hint ? { hint } : {}) });
  });
}

interface WithLeaseOptions<T> {
  place: CopyPlace;
  repository: Repository;
  same: SamePlace;
  watch: { signal: AbortSignal; alive(): void };
  work: (lease: Lease) => Promise<T>;
}

/** Takes the lease of a copy, and tells whoever loses it to another name of the same place why. */
async function withLease<T>({ place, repository, same, watch, work }: WithLeaseOptions<T>): Promise<T> {
  const lease = await same.take(place.name, repository, () => place.lease(repository), watch);
  try {
    return await work(lease);
  } catch (error) {
    // One that was given up may have taken over a lease of this agent's own.
    if (hasCode(error, 'LEASE_LOST')) await same.refuse(place.name, repository);
    throw error;
  } finally {
    await lease.release();
  }
}

/** Waits until all copies were looked at, each of which is watched by itself. False when this one is to end before. */
async function isKnown(all: Promise<unknown>, signal: AbortSignal, alive: () => void): Promise<boolean> {
  await patiently(Promise.race([all, aborted(signal)]), alive);
  return !signal.aborted;
}

/** A copy that has everything is well, whatever else it still has. */
async function pruneCopy({ log }: CopyDeps, report: CopyReport, prune: () => Promise<Pruned | undefined>) {
  try {
    const pruned = await prune();
    if (pruned) {
      const { snapshots, objects, bytes, refused } = pruned;
      report.pruned = { snapshots, objects, bytes, ...(refused ? { refused } : {}) };
    }
  } catch (error) {
    report.pruneError = errorInfo(error);
    log.warn('old snapshots of a copy could not be removed', { copy: report.name, ...report.pruneError });
  }
}

function limits({ stallTimeoutMs: limitMs }: CopyDeps, name: string) {
  const message = `copying to ${name} made no progress for ${Math.round(limitMs / 1000)} s`;
  const hint = 'Look at the disk, server or network behind it; the next run goes on where this one stopped.';
  return { limitMs, stalled: () => new LifeboatError('DEST_UNREACHABLE', message, { hint }) };
}
