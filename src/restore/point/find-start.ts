import { LifeboatError } from '../../base/errors.ts';
import { baseName } from '../../plan/postgres.ts';
import type { Manifest, ManifestSource } from '../../store/objects/manifest.ts';
import type { PackRef } from '../../store/packs/pack-stream.ts';
import { readPacks } from '../../store/repository/pack-lists.ts';
import type { Repository } from '../../store/repository/repository.ts';
import { requireKeys } from '../../store/seal/encryption.ts';
import { parseLsn } from '../../store/wal/names.ts';
import { neededWal } from '../../store/wal/needed.ts';
import type { WalLog } from '../../store/wal/read-log.ts';
import { type Recoverable, readRecoverable } from '../../store/wal/recoverable.ts';
import type { RememberedWal } from '../../store/wal/remembered.ts';
import {
  type Base,
  isBaseOf,
  nearestTimes,
  type RecoveryStart,
  rivalsOf,
  startAtPosition,
  startOfRecovery,
  type Window,
} from '../../store/wal/windows.ts';
import { type FoundMarker, findMarker } from './find-marker.ts';
import { isSameState } from './same-state.ts';
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
  const { source, signal, target } = request;
  const found = await readRecoverable(repository, { source, base: baseName(source) }, remembered, signal);
  const windows = windowsFor(found, request);
  const start = isMarker(target)
    ? await startAtMarker(repository, found, windows, { ...request, target })
    : await choose(repository, found, windows, request);
  const log = logOf(found, start.window);
  const { manifest: snapshot } = await repository.resolve(start.base.snapshot);
  const entry = snapshot.sources[baseName(source)];
  if (!log || !entry) throw new LifeboatError('PITR_TIME', `the base backup of ${source} is gone`);
  const { windows: all, problems } = found;
  return { ...start, snapshot, entry, log, windows: all, problems };
}

/** Dependencies for finding the start of a recovery. */
export interface PointDeps {
  repository(): Promise<Repository>;
  /** what the agent remembers of the stored WAL of a source */
  remembered(source: string): Promise<RememberedWal | undefined>;
}

/**
 * Finds the start of a recovery, and checks that the keys for its objects are there. Throws like {@link findStart};
 * KEY_MISSING.
 */
export async function findReadableStart(
  deps: PointDeps,
  request: Request,
): Promise<{ repository: Repository; start: Start; packs: PackRef[] }> {
  const repository = await deps.repository();
  const start = await findStart(repository, request, await deps.remembered(request.source));
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
  request: Request,
): Promise<RecoveryStart> {
  const { target, signal } = request;
  // A server that was created again, or went back, has other WAL at the same positions. Its present data counts first.
  const start =
    startOf(found, ofSameLog(found, windows, latestOf(found, windows)), target) ?? startOf(found, windows, target);
  if (start) {
    const point = pointOf(target);
    const log = logOf(found, start.window);
    const own = ofSameLog(found, windows, start.window);
    for (const rival of point === undefined ? [] : rivalsOf(start.window, own, point)) {
      const pair = [start.window, rival] as const;
      if (point instanceof Date && log && (await isSameState({ repository, log, signal }, pair, point))) continue;
      throw several(pair, request);
    }
    return start;
  }
  const isTime = target !== 'latest' && 'date' in target;
  throw nowhere(request, isTime && windows.length > 0 ? nearHint(windows, target.date) : 'Nothing was changed.');
}

/** Finds the record of a marker, and the newest base backup before it. @throws PITR_TIME */
async function startAtMarker(
  repository: Repository,
  all: Recoverable,
  windows: readonly Window[],
  request: Request & { target: Marker },
): Promise<RecoveryStart & Pick<Start, 'marker'>> {
  const { target, signal, say } = request;
  const newest = latestOf(all, windows);
  const log = newest && logOf(all, newest);
  if (!newest || !log) throw nowhere(request, 'Nothing was changed.');
  say?.(`  looking for ${describeTarget(target)} in the stored write-ahead log`);
  const own = ofSameLog(all, windows, newest);
  const found = await findMarker({ repository, log, signal }, own, target, say);
  if (!found) throw nowhere(request, 'Nothing was changed. The stored WAL does not have it: check its name or number.');
  if (found !== 'unreadable') return { base: found.base, window: found.window, marker: found };
  const [base] = newest.bases;
  if (!base) throw nowhere(request, 'Nothing was changed.');
  return { base, window: newest };
}

function nowhere({ source, target, timeline }: Request, hint: string): LifeboatError {
  const where = timeline === undefined ? '' : ` on timeline ${timeline}`;
  return new LifeboatError('PITR_TIME', `${source} cannot be recovered to ${describeTarget(target)}${where}`, {
    hint: `${hint} \`lifeboat windows ${source}\` shows what can be recovered.`,
  });
}

/** Returns the log of a window. */
function logOf({ logs }: Recoverable, { bases: [base] }: Window): WalLog | undefined {
  return base && logs.find(({ wal }) => isBaseOf(base, wal));
}

/** Returns the windows of the same log as one of them. */
function ofSameLog(found: Recoverable, windows: readonly Window[], one: Window | undefined): Window[] {
  const log = one && logOf(found, one);
  return log ? windows.filter((each) => logOf(found, each) === log) : [];
}

/** Returns the window with the latest end, in the last history of its server: a clock may have been set back. */
function latestOf(found: Recoverable, windows: readonly Window[]): Window | undefined {
  const sorted = windows.toSorted((a, b) => Date.parse(a.to) - Date.parse(b.to));
  const own = sorted.filter(({ systemId }) => systemId === sorted.at(-1)?.systemId);
  const log = found.logs.findLast((each) => own.some((one) => logOf(found, one) === each));
  return own.findLast((one) => logOf(found, one) === log);
}

/** Returns the error for a point that several timelines have, each with another state. */
function several(windows: readonly Window[], { source, target }: Request): LifeboatError {
  const numbers = windows.map(({ timeline }) => timeline).sort((a, b) => a - b);
  const what = `${source} was on several timelines, and ${describeTarget(target)} is a point on each of them`;
  return new LifeboatError('PITR_TIME', `${what}: ${numbers.join(', ')}`, {
    hint: `Nothing was changed. Add --timeline with the one that you want. \`lifeboat windows ${source}\` shows their times.`,
  });
}

/** Returns the time or the position that a target names; undefined for any other target. */
function pointOf(target: Target): Date | bigint | undefined {
  if (target === 'latest' || isMarker(target)) return undefined;
  return 'date' in target ? target.date : parseLsn(target.lsn);
}

function startOf(found: Recoverable, windows: readonly Window[], target: Target): RecoveryStart | undefined {
  const point = pointOf(target);
  if (typeof point === 'bigint') return startAtPosition(windows, point);
  if (point) return startOfRecovery(windows, point);
  const window = latestOf(found, windows);
  const base = window?.bases.at(-1);
  return window && base && { window, base };
}

function nearHint(windows: readonly Window[], date: Date): string {
  const { before, after } = nearestTimes(windows, date);
  const near = [...(before ? [`before it: ${before}`] : []), ...(after ? [`after it: ${after}`] : [])].join(', ');
  return `Nothing was changed. The nearest times are ${near}.`;
}
