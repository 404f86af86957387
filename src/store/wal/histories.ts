import { LifeboatError } from '../../base/errors.ts';
import type { WalPage, WalPlace } from './page.ts';

/** The histories of a server in the pages of its log. No I/O. */

/** A page as it was read. */
export interface ReadPage {
  key: string;
  page: WalPage;
  hash: string;
}

/** Why a page cannot be used. */
export interface PageProblem {
  page: number;
  error: LifeboatError;
}

/** The pages of one history that can be read. */
export interface ReadHistory {
  pages: ReadPage[];
  /** number of its first page */
  era: number;
  next: WalPage['era'];
}

/**
 * Splits the pages of a server by history, oldest first. Pages that cannot be read do not say their history: those
 * before the first known one get a history without pages.
 */
export function historiesOf(pages: readonly ReadPage[], problems: readonly PageProblem[]): ReadHistory[] {
  const eras = Map.groupBy(pages, ({ page }) => page.era?.page ?? 1);
  const found = [...eras].map(([era, own]) => ({ era, pages: own }));
  const first = found[0]?.era;
  if (first === undefined || problems.some(({ page }) => page < first)) found.unshift({ era: 1, pages: [] });
  return found.map((one, i) => ({ ...one, next: found[i + 1]?.pages[0]?.page.era }));
}

/** Returns whether the number of a page belongs to a history. */
export function isWithin({ page }: PageProblem, { era, next }: ReadHistory): boolean {
  return page >= era && (next === undefined || page < next.page);
}

/**
 * Returns the pages whose successor does not follow them. A page that follows another has its hash. A removed
 * beginning is no loss: prune removes old pages, also at the beginning of a later history. A history that began because
 * the page before it could not be used follows none. What is wrong is the end of the pages before, also if a later
 * history follows them.
 */
export function brokenLinks(place: WalPlace, pages: readonly ReadPage[]): PageProblem[] {
  return pages.flatMap(({ page }, i) => {
    const before = pages[i - 1];
    if (!before) return [];
    const isFirst = page.era?.page === page.page;
    const isCut = page.era?.page !== before.page.era?.page && (!isFirst || page.previous === null);
    if (isCut || (before.page.page === page.page - 1 && before.hash === page.previous)) return [];
    const what = `page ${page.page} of the WAL log of ${place.source} does not follow page ${before.page.page}`;
    return [{ page: page.page - 1, error: new LifeboatError('CHAIN_BROKEN', what) }];
  });
}
