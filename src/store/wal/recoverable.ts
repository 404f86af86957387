import { LifeboatError } from '../../base/errors.ts';
import { baseName } from '../../plan/postgres.ts';
import type { Manifest } from '../objects/manifest.ts';
import type { Repository } from '../repository/repository.ts';
import { parseLsn, parseSegmentName, segmentAt } from './names.ts';
import { isOfUse, problemsOf } from './needed.ts';
import { readWalLogs, type WalLog } from './read-log.ts';
import { lostEnd, type RememberedWal } from './remembered.ts';
import { type Base, type Hole, holesOf, isBaseOf, type Window, windowsOf } from './windows.ts';

/** Everything that a recovery of a source can use, and the times that follow from it. */
export interface Recoverable {
  logs: WalLog[];
  /** oldest first; a clock that was ahead may have dated the end of one after the end of its history */
  windows: Window[];
  /** the windows without these times, to which nobody can recover */
  spans: Window[];
  holes: Hole[];
  bases: Base[];
  /** pages and segments that are lost or cannot be used, for people */
  problems: LifeboatError[];
}

/** Returns the base backups of a source that snapshots hold, oldest first. */
export function basesOf(manifests: readonly Manifest[], baseSource: string): Base[] {
  return manifests
    .flatMap(({ id, sources }) => {
      const entry = sources[baseSource];
      if (!entry?.base || entry.status !== 'ok') return [];
      const { image, imageDigest } = entry;
      const names = {
        ...(image === undefined ? {} : { image }),
        ...(imageDigest === undefined ? {} : { imageDigest }),
      };
      return [{ snapshot: id, ...entry.base, ...names }];
    })
    .sort((a, b) => Date.parse(a.stopTime) - Date.parse(b.stopTime));
}

/** Returns the servers that snapshots hold base backups of. */
export function serversOf(manifests: readonly Manifest[]): string[] {
  const names = manifests.flatMap(({ sources }) =>
    Object.entries(sources).flatMap(([name, { base }]) => (base ? [name] : [])),
  );
  const suffix = baseName('');
  return [...new Set(names.filter((name) => name.endsWith(suffix)).map((name) => name.slice(0, -suffix.length)))];
}

/** Returns the end of a window, and at the latest that of its history. */
function boundedEnd({ to, bases: [base] }: Window, logs: readonly WalLog[]): string {
  const until = base && logs.find(({ wal }) => isBaseOf(base, wal))?.wal.until;
  return until !== undefined && Date.parse(until) < Date.parse(to) ? until : to;
}

/** Returns an error for each of the first segments that are lost although a base backup needs them. */
function lostSegments({ lost, wal }: WalLog, bases: readonly Base[]): LifeboatError[] {
  const { segmentSize } = wal;
  const starts = bases.filter((base) => isBaseOf(base, wal)).map(({ startLsn }) => parseLsn(startLsn));
  const isNeeded = (name: string) => {
    const number = parseSegmentName(name, segmentSize)?.number ?? 0;
    return starts.some((start) => segmentAt(start, segmentSize) <= number);
  };
  return lost
    .filter(({ name }) => isNeeded(name))
    .slice(0, MAX_LOST)
    .map(({ key }) => new LifeboatError('OBJECT_MISSING', `${key} is not there`));
}

/** The most lost segments that are named. */
const MAX_LOST = 10;

/**
 * Reads which times a source can be recovered to, from the stored base backups and WAL.
 *
 * @param names of the source of the server, and of its base backups
 * @param remembered what the agent remembers of the server that wrote last
 * @throws as the listing of the snapshots and of the WAL does
 */
export async function readRecoverable(
  repository: Repository,
  { source, base }: { source: string; base: string },
  remembered?: RememberedWal,
  signal?: AbortSignal,
): Promise<Recoverable> {
  const { snapshots } = await repository.snapshots(signal);
  const bases = basesOf(
    snapshots.filter(({ unsigned }) => !unsigned).map(({ manifest }) => manifest),
    base,
  );
  const logs = await readWalLogs(repository, source, signal);
  const windows = logs
    .flatMap(({ place, wal }) => {
      const isCurrent = place.systemId === remembered?.systemId && wal.until === undefined;
      const confirmed = isCurrent ? remembered.confirmed : undefined;
      return windowsOf({ ...wal, confirmed }, bases);
    })
    .sort((a, b) => Date.parse(a.from) - Date.parse(b.from));
  // A clock that was ahead names times after the end of a history. Nobody can recover to these.
  const spans = windows
    .map((one) => ({ ...one, to: boundedEnd(one, logs) }))
    .filter(({ from, to }) => Date.parse(from) <= Date.parse(to));
  const holes = holesOf(
    spans,
    logs.flatMap(({ wal }) => wal.gaps),
  );
  const lost = lostEnd(repository, source, logs, remembered);
  const problems = logs.flatMap((log) => [
    ...problemsOf(log, logs, bases),
    ...(isOfUse(log, logs, bases) ? lostSegments(log, bases) : []),
  ]);
  if (lost) problems.push(lost);
  return { logs, windows, spans, holes, bases, problems };
}
