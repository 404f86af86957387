import { costOf } from '../plan/values/place-limits.ts';
import type { LimitedPlace, SizeSample } from './size-log.ts';

/** The size of a place and its growth. Sizes in bytes, as stored. */
export interface PlaceSize {
  name: string;
  /** absent: it was not measured yet */
  now?: SizeSample;
  /** what it held about a month ago, or when it was first measured */
  before?: SizeSample;
  /** cost a month, in the currency of `price-per-gb` */
  cost?: number;
}

const MONTH_MS = 31 * 86_400_000;

/**
 * Compares what a place holds with what it held a month ago.
 *
 * @param samples oldest first
 */
export function placeSize(
  { name, limits = {} }: LimitedPlace,
  samples: readonly SizeSample[] = [],
  at: Date,
): PlaceSize {
  const now = samples.at(-1);
  if (!now) return { name };
  const before = samples.find((one) => Date.parse(one.at) >= at.getTime() - MONTH_MS);
  const cost = costOf(now.bytes, limits);
  return { name, now, ...(before && before !== now ? { before } : {}), ...(cost === undefined ? {} : { cost }) };
}
