import { hasCode, LifeboatError, toLifeboatError } from '../../base/errors.ts';
import { MAX_DOCUMENT } from '../objects/bounds.ts';
import { readDocument } from '../objects/objects.ts';
import type { Repository } from '../repository/repository.ts';
import { unsigned } from '../repository/signing.ts';
import type { StoredWal } from './coverage.ts';
import { brokenLinks, historiesOf, isWithin, type PageProblem, type ReadHistory, type ReadPage } from './histories.ts';
import {
  decodePage,
  type PartialSegment,
  pageHash,
  pageKey,
  parsePageKey,
  type StoredHistory,
  type StoredSegment,
  type WalPage,
  type WalPlace,
  walPrefix,
} from './page.ts';
import { type Ancestor, parseAncestors, parseHistoryName } from './timelines.ts';

/** The parts of a repository that hold WAL. */
export type WalRepository = Pick<Repository, 'destination' | 'project' | 'keys' | 'signing'>;

/** The stored WAL of one server, with the objects that hold it. */
export interface WalLog {
  place: WalPlace;
  wal: StoredWal;
  /** the newest revisions, in order */
  pages: ReadPage[];
  /** segments that a page lists and that are not stored whole; prune removes those that nothing needs */
  lost: StoredSegment[];
  /** the newest page that can be read; absent if there is none */
  last?: ReadPage;
  /** the newest page that is there, whether it can be read or not */
  newest: Pick<WalPage, 'page' | 'revision'>;
  /** older pages without a signature, from before the signing key was set: they do not count */
  hasUnsigned: boolean;
  segments: ReadonlyMap<string, StoredSegment>;
  histories: ReadonlyMap<string, StoredHistory>;
  /** segments of which only the beginning is stored, by name: the longest beginning of each */
  partials: ReadonlyMap<string, PartialSegment>;
  /** pages of this history that cannot be used */
  problems: PageProblem[];
}

/** The newest page is replaced whenever WAL is stored. */
const ATTEMPTS = 5;

/**
 * Reads the logs of all servers that a source ever was, and compares them with the objects at the destination. What is
 * not stored as a page names it does not count.
 *
 * @throws DEST_UNREACHABLE and other errors that do not concern one page
 */
export async function readWalLogs(repository: WalRepository, source: string, signal?: AbortSignal): Promise<WalLog[]> {
  for (let attempt = 1; ; attempt++) {
    const logs = await readListed(repository, source, signal);
    // The writer has replaced a page that was listed.
    const isReplaced = logs.some(({ problems }) => problems.some(({ error }) => hasCode(error, 'OBJECT_MISSING')));
    if (!isReplaced || attempt === ATTEMPTS) return logs;
  }
}

async function readListed(repository: WalRepository, source: string, signal?: AbortSignal): Promise<WalLog[]> {
  const { destination, project } = repository;
  const prefix = walPrefix({ project, source });
  const sizes = new Map<string, number | undefined>();
  const newest = new Map<string, Map<number, number>>();
  // WAL is stored all the time: an earlier listing names revisions of the newest page that are gone.
  for await (const { key, size } of destination.list(prefix, { fresh: true, ...(signal ? { signal } : {}) })) {
    sizes.set(key, size);
    const found = parsePageKey(key.slice(prefix.length));
    if (!found) continue;
    const pages = newest.get(found.systemId) ?? new Map<number, number>();
    pages.set(found.page, Math.max(pages.get(found.page) ?? 0, found.revision));
    newest.set(found.systemId, pages);
  }
  const logs: WalLog[] = [];
  for (const [systemId, pages] of newest) {
    signal?.throwIfAborted();
    logs.push(...(await readLog(repository, { project, source, systemId }, pages, sizes)));
  }
  return logs;
}

/** Reads the pages of one server. Returns a log for each history of it, oldest first. */
async function readLog(
  repository: WalRepository,
  place: WalPlace,
  numbers: ReadonlyMap<number, number>,
  sizes: ReadonlyMap<string, number | undefined>,
): Promise<WalLog[]> {
  const unusable: PageProblem[] = [];
  const pages: ReadPage[] = [];
  // Newest first: only that one may be replaced before it is read.
  for (const [page, revision] of [...numbers].sort(([a], [b]) => b - a)) {
    try {
      pages.unshift(await readPage(repository, place, { page, revision }));
    } catch (error) {
      if (!isAboutPage(error)) throw error;
      unusable.unshift({ page, error: toLifeboatError(error) });
    }
  }
  const isOld = (one: PageProblem) => isBeforeSigning(one, pages[0]?.page);
  const problems = [...unusable.filter((one) => !isOld(one)), ...brokenLinks(place, pages)];
  const [page, revision] = [...numbers].reduce((a, b) => (b[0] > a[0] ? b : a));
  const hasUnsigned = unusable.some(isOld);
  return historiesOf(pages, problems).map((history, i) => ({
    ...logOf(place, history, sizes),
    newest: { page, revision },
    problems: problems.filter((one) => isWithin(one, history)),
    hasUnsigned: hasUnsigned && i === 0,
  }));
}

function logOf(
  place: WalPlace,
  { pages, era, next }: ReadHistory,
  sizes: ReadonlyMap<string, number | undefined>,
): Omit<WalLog, 'newest' | 'problems' | 'hasUnsigned'> {
  const isWhole = ({ key, size }: { key: string; size: number }) => sizes.get(key) === size;
  const listed = pages.flatMap(({ page }) => page.segments);
  const segments = new Map(listed.filter(isWhole).map((one) => [one.name, one]));
  const histories = new Map(
    pages.flatMap(({ page }) => page.histories.filter(isWhole).map((one) => [one.name, one] as const)),
  );
  const last = pages.at(-1);
  const partials = partialsOf(pages, segments, isWhole);
  return {
    place,
    wal: {
      systemId: place.systemId,
      segmentSize: last?.page.segmentSize ?? 16 * 1024 * 1024,
      segments: [...segments.values()],
      partials: [...partials.values()].map((one) => ({ name: one.name, to: endOf(one), reached: one.reached })),
      histories: lineages(histories.values()),
      gaps: pages.flatMap(({ page }) => page.gaps),
      ...(last?.page.era ? { since: last.page.era.since } : {}),
      ...(next ? { until: next.since, nextEra: next.page } : {}),
      era,
    },
    pages,
    lost: listed.filter((one) => !segments.has(one.name)),
    segments,
    histories,
    partials,
    ...(last ? { last } : {}),
  };
}

/**
 * Returns whether a page is from before the signing key was set. The first signed page then says itself that it follows
 * none, so nobody can pass off unsigned pages as older ones.
 */
function isBeforeSigning({ page, error }: PageProblem, first: Pick<WalPage, 'page' | 'previous'> | undefined): boolean {
  return hasCode(error, 'SIGNATURE_MISSING') && first?.previous === null && page < first.page;
}

/** Returns the incomplete segments, each with its parts up to the first one that is not stored whole. */
function partialsOf(
  pages: readonly ReadPage[],
  segments: ReadonlyMap<string, unknown>,
  isWhole: (part: { key: string; size: number }) => boolean,
): Map<string, PartialSegment> {
  const found = new Map<string, PartialSegment>();
  const open = pages.at(-1)?.page.open;
  for (const one of [...pages.flatMap(({ page }) => page.partials), ...(open ? [open] : [])]) {
    const firstLost = one.parts.findIndex((part) => !isWhole(part));
    const { reached: _, ...cut } = { ...one, parts: one.parts.slice(0, firstLost) };
    const usable = firstLost < 0 ? one : cut;
    const longest = endOf(found.get(one.name));
    if (endOf(usable) > longest && !segments.has(one.name)) found.set(one.name, usable);
  }
  return found;
}

/** Returns the offset at which the stored beginning of a segment ends. */
export function endOf(partial: PartialSegment | undefined): number {
  return partial?.parts.at(-1)?.to ?? 0;
}

/**
 * Reads and verifies one page. @throws OBJECT_DAMAGED, OBJECT_MISSING, SIGNATURE_WRONG, SIGNATURE_KEY,
 * SIGNATURE_MISSING
 */
export async function readPage(
  { destination, signing }: WalRepository,
  place: WalPlace,
  number: Pick<WalPage, 'page' | 'revision'>,
): Promise<ReadPage> {
  const key = pageKey(place, number);
  const bytes = await readDocument(destination, key, { limit: MAX_DOCUMENT });
  const page = decodePage(bytes);
  const verdict = signing.verify('wal', key, JSON.parse(bytes.toString('utf8')));
  if (verdict === 'unsigned') throw unsigned(key);
  if (pageKey(page, page) !== key) {
    const code = verdict === 'signed' ? 'SIGNATURE_WRONG' : 'OBJECT_DAMAGED';
    throw new LifeboatError(code, `${key} is a page of another place in the log`);
  }
  return { key, page, hash: pageHash(bytes) };
}

function isAboutPage(error: unknown): boolean {
  return hasCode(
    error,
    ...(['OBJECT_DAMAGED', 'OBJECT_MISSING', 'SIGNATURE_WRONG', 'SIGNATURE_KEY', 'SIGNATURE_MISSING'] as const),
  );
}

function lineages(histories: Iterable<StoredHistory>): Map<number, readonly Ancestor[]> {
  return new Map(
    [...histories].map(({ name, ancestors }) => [parseHistoryName(name) as number, parseAncestors(ancestors)]),
  );
}
