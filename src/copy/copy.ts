import { aborted } from '../base/abort.ts';
import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import { until } from '../destinations/until.ts';
import { withAlive } from '../destinations/with-alive.ts';
import { isCopyOk } from '../report/copy-text.ts';
import type { CopyReport, Pruned } from '../report/events.ts';
import { formatWhen } from '../report/format.ts';
import type { CopyState } from '../run/state.ts';
import { patiently, watched } from '../run/watchdog.ts';
import { refuseEmptied } from '../store/repository/emptied.ts';
import type { Lease } from '../store/repository/lease.ts';
import { readPins } from '../store/repository/pins.ts';
import type { Repository } from '../store/repository/repository.ts';
import { tombstoneIds } from '../store/repository/tombstones.ts';
import type { CopyDeps, CopyPlace, Side } from './context.ts';
import { stallLimits } from './limits.ts';
import { behindSince, type CopyStep } from './plan.ts';
import { DESTINATION, SamePlace } from './same-place.ts';
import { bringUpToDate } from './steps.ts';

/**
 * Updates all copies concurrently and independently of each other. Each copy receives the snapshots that it lacks and
 * its retention keeps, oldest first, one complete snapshot after the other. Never rejects: the report of each copy
 * contains its error, which is also stored in the agent's state.
 */
export async function copyAll(deps: CopyDeps): Promise<CopyReport[]> {
  const main = readSide(deps);
  main.catch(() => undefined);
  const before = await deps.state.copies().catch((): Record<string, CopyState> => ({}));
  const bad = new Set<string>();
  const opened = new Set<string>();
  const seen = new Map<string, number>();
  const same = new SamePlace(Object.fromEntries(deps.copies.map(({ name }) => [name, before[name] ?? {}])));
  same.add(DESTINATION, deps.lease);
  const compared = deps.copies.map(() => Promise.withResolvers<void>());
  const all = Promise.all(compared.map(({ promise }) => promise));
  const reports = await Promise.all(
    deps.copies.map((place, i) => {
      const comparison = { finish: () => compared[i]?.resolve(), all };
      const one = { place, main, bad, same, comparison, opened, seen, before: before[place.name] };
      return copyOne(deps, one).finally(comparison.finish);
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
    const highest = Math.max(seen.get(name) ?? 0, before[name]?.highest ?? 0);
    const known = { ...times, ...(highest > 0 ? { highest } : {}), ...(sameAs === undefined ? {} : { sameAs }) };
    return [name, { ...known, ...behind, ...(problems ? { problems } : {}) }];
  });
  try {
    await deps.state.saveCopies(Object.fromEntries(states));
    // The next backup stores their content again.
    if (bad.size > 0) await deps.state.saveDamaged([...new Set([...(await deps.state.damaged()), ...bad])]);
  } catch (error) {
    deps.log.warn('the status of the copies could not be saved', { ...errorInfo(error) });
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
  /** the highest sequence in each copy, by its name */
  seen: Map<string, number>;
  /** keys of damaged objects at the destination, added as they are found */
  bad: Set<string>;
  /** detects places that are the destination or another copy under a different name */
  same: SamePlace;
  /** `finish`: call it once this place was compared with the others; `all`: resolves once every place was compared */
  comparison: { finish(): void; all: Promise<unknown> };
}

async function copyOne(
  deps: CopyDeps,
  { place, main, before, bad, opened: names, seen, same, comparison }: One,
): Promise<CopyReport> {
  const { name } = place;
  const report: CopyReport = { name, status: 'ok', snapshots: 0, objects: 0, bytes: 0 };
  const lacking = new Set<CopyStep>();
  try {
    await watched({ ...stallLimits(name, deps.stallTimeoutMs), signal: deps.signal }, async (signal, alive) => {
      const side = await main;
      const opened = await openCopy({ place, main: side.repository, before, signal }, deps);
      // The lease bypasses the watchdog, because the lease's timer is no sign of progress.
      await withLease({
        place,
        repository: opened,
        same,
        watch: { signal, alive },
        work: async ({ fence }) => {
          comparison.finish();
          names.add(name);
          const repository = opened.through(withAlive(until(opened.destination, signal), alive));
          await place.sweep(signal);
          const see = (sequence: number) => void seen.set(name, Math.max(seen.get(name) ?? 0, sequence));
          const copying = { place, main: side, repository, report, bad, lacking, see, fence, signal, alive };
          const done = await bringUpToDate(deps, copying);
          if (done.problems.length > 0) report.problems = done.problems;
          if (done.error) Object.assign(report, { status: 'partial', error: errorInfo(done.error) });
          // A snapshot that the destination has lost may exist only in this copy, which is not pruned then.
          else if (deps.prune && isCopyOk(report) && (await waitForAll(comparison.all, signal, alive))) {
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
  deps.log.debug('a copy is behind', { copy: name, since: report.behindSince, ...report.error });
  return report;
}

/**
 * Opens a copy, and creates it only the first time. A copy that existed and is empty now is not created again: its
 * mount is missing, or somebody has emptied it.
 */
async function openCopy(
  { place, main, before, signal }: Pick<One, 'place' | 'before'> & { main: Repository; signal: AbortSignal },
  { now, zone }: Pick<CopyDeps, 'now' | 'zone'>,
): Promise<Repository> {
  const { complete, made } = before ?? {};
  if (complete === undefined && made === undefined) return place.open(main, { create: true, signal });
  return place.open(main, { create: false, signal }).catch((error: unknown) => {
    if (!hasCode(error, 'DEST_FOREIGN')) throw error;
    const { code, message, hint, cause } = error;
    const at = formatWhen(new Date(complete ?? made ?? ''), { now: now(), zone });
    const was = complete === undefined ? `it was created ${at}` : `it was complete ${at}`;
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

/** Works with the lease of a copy held. If the lease is lost to another name of the same place, the error says so. */
async function withLease<T>({ place, repository, same, watch, work }: WithLeaseOptions<T>): Promise<T> {
  const lease = await same.take(place.name, repository, () => place.lease(repository), watch);
  try {
    return await work(lease);
  } catch (error) {
    // Another copy of this run, which was aborted, may have taken over this agent's own lease.
    if (hasCode(error, 'LEASE_LOST')) await same.refuse(place.name, repository);
    throw error;
  } finally {
    await lease.release();
  }
}

/**
 * Waits until all places were compared. Each of them has its own watchdog. Returns false if this copy is aborted
 * before.
 */
async function waitForAll(all: Promise<unknown>, signal: AbortSignal, alive: () => void): Promise<boolean> {
  await patiently(Promise.race([all, aborted(signal)]), alive);
  return !signal.aborted;
}

/** Prunes a copy. A failure does not make the copy fail, because the copy is complete. */
async function pruneCopy({ log }: CopyDeps, report: CopyReport, prune: () => Promise<Pruned | undefined>) {
  try {
    const pruned = await prune();
    if (pruned) {
      const { snapshots, objects, bytes, refused } = pruned;
      report.pruned = { snapshots, objects, bytes, ...(refused ? { refused } : {}) };
    }
  } catch (error) {
    report.pruneError = errorInfo(error);
    log.debug('old snapshots of a copy could not be removed', { copy: report.name, ...report.pruneError });
  }
}
