import type { ObjectInfo } from '../destinations/destination.ts';
import { baseName } from '../plan/postgres.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { parseLsn, parseSegmentName, segmentAt } from '../store/wal/names.ts';
import { isWalObject } from '../store/wal/page.ts';
import { readWalLogs, type WalLog, type WalRepository } from '../store/wal/read-log.ts';
import { basesOf } from '../store/wal/recoverable.ts';
import type { Base } from '../store/wal/windows.ts';

/**
 * Lists the stored WAL that no base backup needs: segments before the first one that the oldest remaining base backup
 * reads, the pages that list only such segments, and objects that no page names. A server whose log cannot be read
 * completely keeps everything, and so does the present server of a source while it has no base backup. History files
 * and the newest page always stay.
 *
 * @param manifests the snapshots that remain
 */
export async function* listUnneededWal(
  repository: WalRepository,
  manifests: readonly Manifest[],
): AsyncGenerator<ObjectInfo> {
  const { destination, project } = repository;
  const prefix = `${project}/wal/`;
  const found = new Map<string, ObjectInfo[]>();
  for await (const object of destination.list(prefix)) {
    const [source = ''] = object.key.slice(prefix.length).split('/');
    if (!isWalObject(object.key.slice(prefix.length + source.length + 1))) continue;
    found.set(source, [...(found.get(source) ?? []), object]);
  }
  for (const [source, objects] of found) {
    const bases = basesOf(manifests, baseName(source));
    const logs = await readWalLogs(repository, source);
    const needed = new Set<string>();
    const whole: string[] = [];
    const current = logs.reduce<WalLog | undefined>((a, b) => (lastAt(b) > lastAt(a) ? b : a), undefined);
    for (const log of logs) {
      if (log.problems.length > 0 || !log.last) whole.push(`${prefix}${source}/${log.place.systemId}/`);
      for (const key of neededOf(log, bases, log === current)) needed.add(key);
    }
    for (const object of objects)
      if (!needed.has(object.key) && !whole.some((one) => object.key.startsWith(one))) yield object;
  }
}

/** Returns the keys of the objects of one server that stay. */
function neededOf(log: WalLog, bases: readonly Base[], isCurrent: boolean): string[] {
  const { segmentSize, systemId } = log.wal;
  const starts = bases.filter((base) => base.systemId === systemId).map(({ startLsn }) => parseLsn(startLsn));
  // Without a base backup, the first one may be under way, and needs the WAL from its beginning on.
  const none = isCurrent ? 0 : Number.POSITIVE_INFINITY;
  const first = starts.length === 0 ? none : Math.min(...starts.map(numberAt(segmentSize)));
  const isNeeded = ({ name }: { name: string }) => (parseSegmentName(name, segmentSize)?.number ?? 0) >= first;
  const newest = log.pages.at(-1);
  const open = newest?.page.open ? [newest.page.open] : [];
  const partials = log.pages.flatMap(({ page }) => page.partials.filter(isNeeded));
  return [
    ...log.pages
      .filter((one) => one === newest || [...one.page.segments, ...one.page.partials].some(isNeeded))
      .map(({ key }) => key),
    ...log.pages.filter(({ page }) => page.histories.length > 0).map(({ key }) => key),
    ...log.pages.flatMap(({ page }) => page.segments.filter(isNeeded).map(({ key }) => key)),
    ...log.pages.flatMap(({ page }) => page.histories.map(({ key }) => key)),
    ...[...partials, ...open].flatMap(({ parts }) => parts.map(({ key }) => key)),
  ];
}

/** Returns when a log was last written, milliseconds since 1970. */
function lastAt(log: WalLog | undefined): number {
  return Date.parse(log?.last?.page.at ?? '1970-01-01T00:00:00Z');
}

function numberAt(segmentSize: number): (lsn: bigint) => number {
  return (lsn) => segmentAt(lsn, segmentSize);
}
