import { unlessAborted } from '../base/abort.ts';
import { hasCode } from '../base/errors.ts';
import type { CopyState, State } from '../run/state.ts';
import type { Repository } from '../store/repository/repository.ts';
import { highestSequence, placeOf } from '../store/repository/seen-chain.ts';
import type { CopyPlace } from './context.ts';

/** How long the copies may take to respond, milliseconds. */
const LIMIT_MS = 30_000;

/**
 * The sequence skips so many numbers if it is unknown which ones a copy has. No destination loses that many snapshots,
 * and a chain may have gaps.
 */
const SKIPPED = 1_000_000;

/** The sequences that copies may have. */
interface Copied {
  /** a new snapshot gets a higher sequence; 0: no copy has a snapshot */
  taken: number;
  /** names of the copies that could not be asked, and whose highest sequence the agent does not remember */
  unknown: string[];
}

interface Asked {
  copies: readonly Pick<CopyPlace, 'name' | 'open'>[];
  main: Repository;
  /** the highest sequence at the destination */
  end: number;
  state: Pick<State, 'copies'>;
  signal: AbortSignal;
}

/**
 * Returns the highest sequence that a snapshot of any copy may have. An agent calls it before it continues a chain that
 * may have lost its end, because a new snapshot must not get the sequence of one that a copy has. An empty copy and one
 * of another repository have none. For a copy that does not respond in time, the highest sequence that it ever had
 * counts. If that is not known, the result is far beyond all others.
 */
export async function highestCopied({ copies, main, end, state, signal: stop }: Asked): Promise<Copied> {
  const signal = AbortSignal.any([stop, AbortSignal.timeout(LIMIT_MS)]);
  const states = await state.copies().catch((): Record<string, CopyState> => ({}));
  const highestAt = async ({ open }: Asked['copies'][number]) => {
    const repository = await open(main, { create: false, signal });
    const { snapshots, damaged } = await repository.snapshots(signal);
    return highestSequence(snapshots.map(placeOf)) + damaged.length;
  };
  const unknown: string[] = [];
  const all = copies.map((place) =>
    unlessAborted(highestAt(place), signal).catch((error: unknown) => {
      if (hasCode(error, 'DEST_FOREIGN')) return 0;
      const remembered = states[place.name]?.highest;
      if (remembered === undefined) unknown.push(place.name);
      return remembered ?? end + SKIPPED;
    }),
  );
  return { taken: Math.max(0, ...(await Promise.all(all))), unknown };
}
