import { LifeboatError } from '../../base/errors.ts';
import { baseName } from '../../plan/postgres.ts';
import type { Manifest, ManifestSource } from '../../store/objects/manifest.ts';
import type { PackRef } from '../../store/packs/pack-stream.ts';
import { readPacks } from '../../store/repository/pack-lists.ts';
import type { Repository } from '../../store/repository/repository.ts';
import { requireKeys } from '../../store/seal/encryption.ts';
import { parseLsn } from '../../store/wal/names.ts';
import type { WalLog } from '../../store/wal/read-log.ts';
import { type Recoverable, readRecoverable } from '../../store/wal/recoverable.ts';
import type { RememberedWal } from '../../store/wal/remembered.ts';
import {
  type Base,
  isBaseOf,
  nearestTimes,
  type RecoveryStart,
  startAtPosition,
  startOfRecovery,
  type Window,
} from '../../store/wal/windows.ts';
import { describeTarget, isMarker, type Target } from './target.ts';

/** The point of a recovery. */
export interface Aim {
  target: Target;
  /** the timeline that the point is on; absent: the latest one that has it */
  timeline?: number;
}

/** Where a recovery starts, and what it reads. */
export interface Start {
  snapshot: Manifest;
  entry: ManifestSource;
  base: Base;
  window: Window;
  log: WalLog;
  /** all windows of the server */
  windows: Window[];
  /** stored WAL that is lost or cannot be used, whether or not this recovery needs it */
  problems: LifeboatError[];
}

/**
 * Finds the base backup and the WAL for a recovery.
 *
 * @param remembered see {@link readRecoverable}
 * @throws PITR_TIME if no window holds the target, for a time with the nearest ones; SOURCE_UNKNOWN
 */
export async function findStart(
  repository: Repository,
  { source, signal, ...aim }: Aim & { source: string; signal: AbortSignal },
  remembered: RememberedWal | undefined,
): Promise<Start> {
  const found = await readRecoverable(repository, { source, base: baseName(source) }, remembered, signal);
  const start = choose(found, source, aim);
  const log = found.logs.find(({ wal }) => isBaseOf(start.base, wal));
  const { manifest: snapshot } = await repository.resolve(start.base.snapshot);
  const entry = snapshot.sources[baseName(source)];
  if (!log || !entry) throw new LifeboatError('PITR_TIME', `the base backup of ${source} is gone`);
  const { windows, problems } = found;
  return { ...start, snapshot, entry, log, windows, problems };
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
  request: Aim & { source: string; signal: AbortSignal },
): Promise<{ repository: Repository; start: Start; packs: PackRef[] }> {
  const repository = await deps.repository();
  const start = await findStart(repository, request, await deps.remembered(request.source));
  const { index, facts } = start.entry;
  const packs = await readPacks(repository, start.entry, request.signal);
  requireKeys([index, facts, ...packs], repository.keys);
  return { repository, start, packs };
}

/** Finds the window and the base backup for a target. @throws PITR_TIME */
function choose({ windows: all, bases }: Recoverable, source: string, { target, timeline }: Aim): RecoveryStart {
  if (all.length === 0) {
    const why = bases.length === 0 ? 'no base backup of it is stored' : 'the WAL after its base backups is not stored';
    throw new LifeboatError('PITR_TIME', `${source} cannot be recovered to any time: ${why}`, {
      hint: 'Set lifeboat.postgres.pitr on its container. `lifeboat windows` shows when the first window opens.',
    });
  }
  const windows = timeline === undefined ? all : all.filter((one) => one.timeline === timeline);
  const start = startOf(windows, target);
  if (start) return start;
  const hint =
    target !== 'latest' && 'date' in target && windows.length > 0
      ? nearHint(windows, target.date)
      : 'Nothing was changed.';
  const where = timeline === undefined ? '' : ` on timeline ${timeline}`;
  throw new LifeboatError('PITR_TIME', `${source} cannot be recovered to ${describeTarget(target)}${where}`, {
    hint: `${hint} \`lifeboat windows ${source}\` shows what can be recovered.`,
  });
}

function startOf(windows: readonly Window[], target: Target): RecoveryStart | undefined {
  if (target !== 'latest' && 'date' in target) return startOfRecovery(windows, target.date);
  if (target !== 'latest' && 'lsn' in target) return startAtPosition(windows, parseLsn(target.lsn));
  const window = windows.toSorted((a, b) => Date.parse(a.to) - Date.parse(b.to)).at(-1);
  // Nobody knows where a marker is, so all of the WAL in the window is searched for it.
  const base = isMarker(target) ? window?.bases[0] : window?.bases.at(-1);
  return window && base && { window, base };
}

function nearHint(windows: readonly Window[], date: Date): string {
  const { before, after } = nearestTimes(windows, date);
  const near = [...(before ? [`before it: ${before}`] : []), ...(after ? [`after it: ${after}`] : [])].join(', ');
  return `Nothing was changed. The nearest times are ${near}.`;
}
