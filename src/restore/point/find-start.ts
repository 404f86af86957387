import { LifeboatError } from '../../base/errors.ts';
import { baseName } from '../../plan/postgres.ts';
import type { Manifest, ManifestSource } from '../../store/objects/manifest.ts';
import type { PackRef } from '../../store/packs/pack-stream.ts';
import { readPacks } from '../../store/repository/pack-lists.ts';
import type { Repository } from '../../store/repository/repository.ts';
import { requireKeys } from '../../store/seal/encryption.ts';
import { later } from '../../store/wal/coverage.ts';
import { parseLsn } from '../../store/wal/names.ts';
import { neededWal } from '../../store/wal/needed.ts';
import type { WalLog } from '../../store/wal/read-log.ts';
import { type Recoverable, readRecoverable } from '../../store/wal/recoverable.ts';
import type { RememberedWal } from '../../store/wal/remembered.ts';
import {
  type Base,
  nearestTimes,
  type RecoveryStart,
  rivalsOf,
  startAtPosition,
  startOfRecovery,
  type Window,
} from '../../store/wal/windows.ts';
import { byHistory, latestIn, logOf } from './by-history.ts';
import { type FoundMarker, findMarker } from './find-marker.ts';
import { refuseUnseen } from './refuse-unseen.ts';
import { isMeant } from './same-state.ts';
import { describeTarget, isMarker, type Marker, type Target } from './target.ts';

/** The point of a recovery. */
export interface Aim {
  target: Target;
  /** the timeline that the point is on; absent: the latest one that has it */
  timeline?: number;
}

interface Request extends Aim {
  source: string;
  signal: AbortSignal;
  say?(line: string): void;
}

/** Where a recovery starts, and what it reads. */
export interface Start {
  snapshot: Manifest;
  entry: ManifestSource;
  base: Base;
  window: Window;
  log: WalLog;
  /** of a transaction or a restore point: its record in the WAL; absent if only the server can find it */
  marker?: Pick<FoundMarker, 'at' | 'time'>;
  /** all windows of the server */
  windows: Window[];
  /** stored WAL that is lost or cannot be used, whether or not this recovery needs it */
  problems: LifeboatError[];
}

/**
 * Finds the base backup and the WAL for a recovery. For a transaction and a restore point, reads the WAL from its end
 * backwards until it has found it.
 *
 * @param remembered see {@link readRecoverable}
 * @throws PITR_TIME if no window holds the target, for a time with the nearest ones, or if several timelines have it;
 * SOURCE_UNKNOWN; for a transaction and a restore point: KEY_*, OBJECT_*
 */
export async function findStart(
  repository: Repository,
  request: Request,
  remembered: RememberedWal | undefined,
): Promise<Start> {
  return (await find(repository, request, remembered)).start;
}

async function find(
  repository: Repository,
  request: Request,
  remembered: RememberedWal | undefined,
): Promise<{ start: Start; logs: readonly WalLog[] }> {
  const { source, signal, target } = request;
  const found = await readRecoverable(repository, { source, base: baseName(source) }, remembered, signal);
  const windows = windowsFor(found, request);
  const start = isMarker(target)
    ? await startAtMarker(repository, found, windows, { ...request, target })
    : await choose(repository, found, windows, { request, remembered });
  const log = logOf(found, start.window);
  const { manifest: snapshot } = await repository.resolve(start.base.snapshot);
  const entry = snapshot.sources[baseName(source)];
  if (!log || !entry) throw new LifeboatError('PITR_TIME', `the base backup of ${source} is gone`);
  const { windows: all, problems, logs } = found;
  return { start: { ...start, snapshot, entry, log, windows: all, problems }, logs };
}

/** Dependencies for finding the start of a recovery. */
export interface PointDeps {
  repository(): Promise<Repository>;
  /** what the agent remembers of the stored WAL of a source */
  remembered(source: string): Promise<RememberedWal | undefined>;
}

/**
 * Finds the start of a recovery, and checks that the keys for its objects are there. Throws like {@link findStart};
 * KEY_MISSING; PITR_TIME for the latest point, if no window shows what the server writes now.
 */
export async function findReadableStart(
  deps: PointDeps,
  request: Request,
): Promise<{ repository: Repository; start: Start; packs: PackRef[] }> {
  const repository = await deps.repository();
  const remembered = await deps.remembered(request.source);
  const { start, logs } = await find(repository, request, remembered);
  if (request.target === 'latest' && request.timeline === undefined)
    refuseUnseen({ ...start, logs }, request.source, remembered);
  const { index, facts } = start.entry;
  const packs = await readPacks(repository, start.entry, request.signal);
  const { objects, open } = neededWal(start.log, [start.base], false);
  requireKeys([index, facts, ...packs, ...objects, ...open], repository.keys);
  return { repository, start, packs };
}

/** Returns the windows in which a target may be. @throws PITR_TIME if there are none at all */
function windowsFor({ windows, bases }: Recoverable, { source, timeline }: Request): Window[] {
  if (windows.length > 0) return timeline === undefined ? windows : windows.filter((one) => one.timeline === timeline);
  const why = bases.length === 0 ? 'no base backup of it is stored' : 'the WAL after its base backups is not stored';
  throw new LifeboatError('PITR_TIME', `${source} cannot be recovered to any time: ${why}`, {
    hint: 'Set lifeboat.postgres.pitr on its container. `lifeboat windows` shows when the first window opens.',
  });
}

/** Finds the window and the base backup for a target. @throws PITR_TIME, also if other timelines have another state */
async function choose(
  repository: Repository,
  found: Recoverable,
  windows: readonly Window[],
  { request, remembered }: { request: Request; remembered: RememberedWal | undefined },
): Promise<RecoveryStart> {
  const { target, signal } = request;
  const point = pointOf(target);
  let late: string | undefined;
  for (const { log, windows: own } of byHistory(found, windows)) {
    const last = latestIn({ log, windows: own }, remembered);
    const start = startOf(own, point, last);
    if (!start) continue;
    // Only a clock that was ahead has times after the end of a history. Commits of these times are older.
    const { until } = log.wal;
    if (point instanceof Date && until !== undefined && point.getTime() > Date.parse(until)) {
      late ??= until;
      continue;
    }
    const others: Window[] = [];
    for (const rival of point === undefined ? [] : rivalsOf(start.window, own, point)) {
      const pair = [start.window, rival] as const;
      if (!(point instanceof Date && (await isMeant({ repository, log, signal }, pair, point)))) others.push(rival);
    }
    if (others.length > 0) throw several([start.window, ...others], request);
    return start;
  }
  if (late !== undefined) throw beforeClock(request, late);
  const near = found.spans.filter((one) => request.timeline === undefined || one.timeline === request.timeline);
  throw nowhere(request, point instanceof Date && near.length > 0 ? nearHint(near, point) : 'Nothing was changed.');
}

/**
 * Finds the record of a marker, and the newest base backup before it, in the newest history that has it. @throws
 * PITR_TIME, also if several timelines have a transaction of that number
 */
async function startAtMarker(
  repository: Repository,
  all: Recoverable,
  windows: readonly Window[],
  request: Request & { target: Marker },
): Promise<RecoveryStart & Pick<Start, 'marker'>> {
  const { target, signal, say } = request;
  const histories = byHistory(all, windows);
  if (histories.length === 0) throw nowhere(request, 'Nothing was changed.');
  say?.(`  looking for ${describeTarget(target)} in the stored write-ahead log`);
  for (const { log, windows: own } of histories) {
    const found = await findMarker({ repository, log, signal }, own, target, say);
    if (found === 'unreadable') {
      const window = latestIn({ log, windows: own }, undefined);
      const [base] = window?.bases ?? [];
      if (window && base) return { base, window };
      continue;
    }
    const [first, second] = found;
    if (second)
      throw several(
        found.map(({ window }) => window),
        request,
      );
    if (first) return { base: first.base, window: first.window, marker: first };
  }
  throw nowhere(request, 'Nothing was changed. The stored WAL does not have it: check its name or number.');
}

function nowhere({ source, target, timeline }: Request, hint: string): LifeboatError {
  const where = timeline === undefined ? '' : ` on timeline ${timeline}`;
  return new LifeboatError('PITR_TIME', `${source} cannot be recovered to ${describeTarget(target)}${where}`, {
    hint: `${hint} \`lifeboat windows ${source}\` shows what can be recovered.`,
  });
}

/** Returns the error for a point that several timelines have, each with another state. */
function several(windows: readonly Window[], { source, target }: Request): LifeboatError {
  const ends = new Map<number, string | undefined>();
  for (const { timeline, to } of windows) ends.set(timeline, later(ends.get(timeline), to));
  const numbers = [...ends.keys()].sort((a, b) => a - b);
  const what = `${source} was on several timelines, and ${describeTarget(target)} is a point on each of them`;
  const choices = numbers.map((one) => `--timeline ${one}, whose WAL ends at ${ends.get(one)}`).join(', or ');
  return new LifeboatError('PITR_TIME', `${what}: ${numbers.join(', ')}`, {
    hint: `Nothing was changed. Add ${choices}. \`lifeboat windows ${source}\` shows their times.`,
  });
}

/** Returns the error for a time by a clock that was ahead. */
function beforeClock(request: Request, until: string): LifeboatError {
  const { source, target } = request;
  const what = `${source} cannot be recovered to ${describeTarget(target)}: the clock of the server went back at ${until}`;
  return new LifeboatError('PITR_TIME', `${what}, so commits of that time by its clock are older`, {
    hint: `Nothing was changed. Use --lsn, or a time before ${until}. \`lifeboat windows ${source}\` shows what can be recovered.`,
  });
}

/** Returns the time or the position that a target names; undefined for any other target. */
function pointOf(target: Target): Date | bigint | undefined {
  if (target === 'latest' || isMarker(target)) return undefined;
  return 'date' in target ? target.date : parseLsn(target.lsn);
}

function startOf(
  windows: readonly Window[],
  point: ReturnType<typeof pointOf>,
  last: Window | undefined,
): RecoveryStart | undefined {
  if (typeof point === 'bigint') return startAtPosition(windows, point);
  if (point) return startOfRecovery(windows, point);
  const base = last?.bases.at(-1);
  return last && base && { window: last, base };
}

function nearHint(windows: readonly Window[], date: Date): string {
  const { before, after } = nearestTimes(windows, date);
  const near = [...(before ? [`before it: ${before}`] : []), ...(after ? [`after it: ${after}`] : [])].join(', ');
  return `Nothing was changed. The nearest times are ${near}.`;
}
