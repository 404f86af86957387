import { FORMAT } from '../objects/manifest.ts';
import {
  ERA_FORMAT,
  PAGE_ENTRIES,
  type PartialSegment,
  type StoredGap,
  type StoredHistory,
  type StoredSegment,
  type StoredTail,
  type WalPage,
  type WalPlace,
} from './page.ts';
import { endOf } from './read-log.ts';

/** The additions of a new revision of a page. */
export interface LogChange {
  segments?: readonly StoredSegment[];
  histories?: readonly StoredHistory[];
  /** the open segment from now on. A former one that is not complete stays as an incomplete segment */
  open?: PartialSegment;
  gaps?: readonly StoredGap[];
  /** the last bytes that are stored from now on */
  tail?: StoredTail;
}

/** What every page of a writer has. */
interface PageOptions {
  place: WalPlace;
  segmentSize: number;
  /** id of the agent's memory */
  home: string;
  now(): Date;
}

/** Returns the page before the first change. `era`: its history, if that is not the first one */
export function firstPage({ place, segmentSize, home, now }: PageOptions, era?: WalPage['era']): WalPage {
  return {
    ...(era ? { format: ERA_FORMAT, era } : { format: FORMAT }),
    ...{ ...place, segmentSize, page: 1, revision: 1, previous: null },
    ...{ home, at: now().toISOString(), segments: [], histories: [], partials: [], gaps: [] },
  };
}

/**
 * Returns the next revision of a page, or the first one of the next page, which lists the known history files again.
 *
 * @param current the page, and its hash; null: it is not stored yet
 * @param options `known`: all history files of the history of the page
 */
export function nextPage(
  { page, hash }: { page: WalPage; hash: string | null },
  { segments = [], histories = [], open, gaps = [], tail }: LogChange,
  options: PageOptions & { known: readonly StoredHistory[] },
): WalPage {
  const begin = isFull(page)
    ? { ...firstPage(options, page.era), page: page.page + 1, previous: hash, histories: [...options.known] }
    : { ...page, revision: hash === null ? 1 : page.revision + 1 };
  const { open: _, signature: __, ...rest } = begin;
  const complete = new Set(segments.map(({ name }) => name));
  const former = page.open && !complete.has(page.open.name) ? page.open : undefined;
  const opened = open ?? former;
  const left = former && former.name !== opened?.name ? [former] : [];
  return {
    ...rest,
    home: options.home,
    at: options.now().toISOString(),
    segments: [...begin.segments, ...segments],
    histories: [...begin.histories, ...histories],
    partials: [...begin.partials, ...left].filter((one) => !complete.has(one.name) && !isWithin(one, opened)),
    gaps: [...begin.gaps, ...gaps],
    ...(opened ? { open: opened } : {}),
    ...((tail ?? page.tail) ? { tail: tail ?? page.tail } : {}),
  };
}

/** Returns whether a page takes nothing more. */
export function isFull({ segments, partials, gaps }: WalPage): boolean {
  return segments.length + partials.length + gaps.length >= PAGE_ENTRIES;
}

/** Returns whether the open segment has everything that an earlier beginning of the same segment has. */
function isWithin(one: PartialSegment, open: PartialSegment | undefined): boolean {
  return one.name === open?.name && endOf(one) <= endOf(open);
}
