import { unlessAborted } from '../base/abort.ts';
import type { Repository } from '../store/repository/repository.ts';
import { highestSequence, placeOf } from '../store/repository/seen-chain.ts';
import type { CopyPlace } from './copy.ts';

/** How long the copies may take to respond, milliseconds. */
const LIMIT_MS = 30_000;

/**
 * Returns the highest sequence of a snapshot that any copy has, or 0. An agent calls it before it continues a chain
 * that may have lost its end, because a new snapshot must not get the sequence of one that a copy has. Ignores copies
 * that do not respond in time, are empty, or belong to another repository.
 */
export async function highestCopied(
  copies: readonly Pick<CopyPlace, 'open'>[],
  main: Repository,
  stop: AbortSignal,
): Promise<number> {
  const signal = AbortSignal.any([stop, AbortSignal.timeout(LIMIT_MS)]);
  const highestAt = async ({ open }: Pick<CopyPlace, 'open'>) => {
    const repository = await open(main, { create: false, signal });
    return highestSequence((await repository.snapshots(signal)).snapshots.map(placeOf));
  };
  const all = copies.map((place) => unlessAborted(highestAt(place), signal).catch(() => 0));
  return Math.max(0, ...(await Promise.all(all)));
}
