import type { LifeboatError } from '../../base/errors.ts';
import type { ObjectRef } from '../objects/manifest.ts';
import { parseLsn, parseSegmentName, segmentAt, segmentName } from './names.ts';
import { incompleteOf, type WalPage } from './page.ts';
import type { WalLog } from './read-log.ts';
import { type Base, isBaseOf } from './windows.ts';

/** The WAL of one server that its base backups need. */
interface NeededWal {
  /** complete and incomplete segments, and history files; without the segment that is being received */
  objects: ObjectRef[];
  /** keys of the pages that list them, without a hole between the first and the newest */
  pages: string[];
  /** parts of the segment that is being received, which later ones replace */
  open: ObjectRef[];
}

/**
 * Returns the WAL that base backups need: everything from the first segment that the oldest one of them reads. History
 * files and the newest page always count. So does a page with a history file that no later one lists, and each page
 * after one that counts.
 *
 * @param isCurrent the log is the present one of its source: while it has no base backup, the first one may be under
 * way, and needs the WAL from its beginning on
 */
export function neededWal(log: WalLog, bases: readonly Base[], isCurrent: boolean): NeededWal {
  const { segmentSize } = log.wal;
  const first = firstNeeded(log, bases, isCurrent);
  const isNeeded = ({ name }: { name: string }) => (parseSegmentName(name, segmentSize)?.number ?? 0) >= first;
  const newest = log.pages.at(-1);
  const listed = log.pages.map(({ page }) => page);
  // Each page names the one before it, so the pages after the first needed one stay, whatever they list.
  const newestListing = new Map(listed.flatMap(({ histories }, i) => histories.map(({ name }) => [name, i] as const)));
  const firstPage = listed.findIndex(
    ({ histories, segments, partials }, i) =>
      [...segments, ...partials].some(isNeeded) || histories.some(({ name }) => newestListing.get(name) === i),
  );
  const histories = new Map(listed.flatMap((one) => one.histories.map((each) => [each.key, each] as const)));
  return {
    objects: [
      ...listed.flatMap(({ segments }) => segments.filter(isNeeded)),
      ...histories.values(),
      ...listed.flatMap(({ partials }) => partials.filter(isNeeded).flatMap(({ parts }) => parts)),
    ],
    pages: log.pages.slice(firstPage < 0 ? -1 : firstPage).map(({ key }) => key),
    open: newest?.page.open?.parts ?? [],
  };
}

/** Returns the number of the first segment that base backups need, see {@link neededWal}. Infinite: they need none. */
export function firstNeeded({ wal }: Pick<WalLog, 'wal'>, bases: readonly Base[], isCurrent: boolean): number {
  const starts = bases
    .filter((base) => isBaseOf(base, wal))
    .map(({ startLsn }) => segmentAt(parseLsn(startLsn), wal.segmentSize));
  if (starts.length > 0) return Math.min(...starts);
  return isCurrent ? 0 : Number.POSITIVE_INFINITY;
}

/**
 * Returns whether a log matters: it is the present one, or has a base backup. Without one, nothing can be recovered
 * from it, and it is no loss that a page of it cannot be used.
 *
 * @param logs all of the source
 */
export function isOfUse(log: WalLog, logs: readonly WalLog[], bases: readonly Base[]): boolean {
  return log === currentLog(logs) || bases.some((base) => isBaseOf(base, log.wal));
}

/**
 * Returns the problems of a log that matter, see {@link isOfUse}. What a page before the first one that base backups
 * need lists is older than all of them.
 */
export function problemsOf(log: WalLog, logs: readonly WalLog[], bases: readonly Base[]): LifeboatError[] {
  if (!isOfUse(log, logs, bases)) return [];
  const first = firstPage(log, bases) ?? 0;
  return log.problems.filter(({ page }) => page >= first).map(({ error }) => error);
}

/**
 * Returns the number of the first page that the base backups of a log need: WAL is listed in the order in which the
 * server wrote it. Returns undefined if there are none, or if no page that can be read lists where one of them begins.
 */
function firstPage({ wal, pages }: WalLog, bases: readonly Base[]): number | undefined {
  const { segmentSize } = wal;
  const lists = ({ segments, ...page }: WalPage, name: string) =>
    [...segments, ...incompleteOf(page)].some((one) => one.name === name);
  const numbers = bases
    .filter((base) => isBaseOf(base, wal))
    .map(({ timeline, startLsn }) => {
      const name = segmentName({ timeline, number: segmentAt(parseLsn(startLsn), segmentSize) }, segmentSize);
      return pages.find(({ page }) => lists(page, name))?.page.page;
    });
  const known = numbers.filter((one) => one !== undefined);
  return known.length > 0 && known.length === numbers.length ? Math.min(...known) : undefined;
}

/**
 * Returns the log that was written last: the last history of its server, because a clock may have been set back.
 *
 * @param logs those of a server oldest first
 */
export function currentLog(logs: readonly WalLog[]): WalLog | undefined {
  const at = (log: WalLog) => Date.parse(log.last?.page.at ?? '1970-01-01T00:00:00Z');
  const [newest] = logs.toSorted((a, b) => at(b) - at(a));
  return logs.findLast(({ place }) => place.systemId === newest?.place.systemId);
}
