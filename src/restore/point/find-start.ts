import { LifeboatError } from '../../base/errors.ts';
import { baseName } from '../../plan/postgres.ts';
import type { PointInTime } from '../../plan/values/point-in-time.ts';
import type { Manifest, ManifestSource } from '../../store/objects/manifest.ts';
import type { Repository } from '../../store/repository/repository.ts';
import type { WalLog } from '../../store/wal/read-log.ts';
import { type Recoverable, readRecoverable } from '../../store/wal/recoverable.ts';
import { type Base, nearestTimes, startOfRecovery, type Window } from '../../store/wal/windows.ts';

/** The point to which a server is recovered: a time, or the end of the stored WAL. */
export type Target = PointInTime | 'latest';

/** Where a recovery starts, and what it reads. */
export interface Start {
  snapshot: Manifest;
  entry: ManifestSource;
  base: Base;
  window: Window;
  log: WalLog;
}

/**
 * Finds the base backup and the WAL for a recovery.
 *
 * @param confirmed see {@link readRecoverable}
 * @throws PITR_TIME with the nearest times if no window holds the target; SOURCE_UNKNOWN
 */
export async function findStart(
  repository: Repository,
  { source, target, signal }: { source: string; target: Target; signal: AbortSignal },
  confirmed: Parameters<typeof readRecoverable>[2],
): Promise<Start> {
  const found = await readRecoverable(repository, { source, base: baseName(source) }, confirmed, signal);
  const start = choose(found, source, target);
  const log = found.logs.find(({ place }) => place.systemId === start.base.systemId);
  const { manifest: snapshot } = await repository.resolve(start.base.snapshot);
  const entry = snapshot.sources[baseName(source)];
  if (!log || !entry) throw new LifeboatError('PITR_TIME', `the base backup of ${source} is gone`);
  return { ...start, snapshot, entry, log };
}

function choose({ windows, bases }: Recoverable, source: string, target: Target) {
  if (windows.length === 0) {
    const why = bases.length === 0 ? 'no base backup of it is stored' : 'the WAL after its base backups is not stored';
    throw new LifeboatError('PITR_TIME', `${source} cannot be recovered to any time: ${why}`, {
      hint: 'Set lifeboat.postgres.pitr on its container. `lifeboat windows` shows when the first window opens.',
    });
  }
  if (target === 'latest') {
    const window = windows.toSorted((a, b) => Date.parse(a.to) - Date.parse(b.to)).at(-1) as Window;
    return { window, base: window.bases.at(-1) as Base };
  }
  const start = startOfRecovery(windows, target.date);
  if (start) return start;
  const { before, after } = nearestTimes(windows, target.date);
  const near = [...(before ? [`before it: ${before}`] : []), ...(after ? [`after it: ${after}`] : [])].join(', ');
  throw new LifeboatError('PITR_TIME', `${source} cannot be recovered to ${target.text}`, {
    hint: `Nothing was changed. The nearest times are ${near}. \`lifeboat windows ${source}\` shows all of them.`,
  });
}
