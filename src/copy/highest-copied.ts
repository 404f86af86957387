import { unlessAborted } from '../base/abort.ts';
import { hasCode } from '../base/errors.ts';
import type { CopyState, State } from '../run/state.ts';
import { SKIPPED_SEQUENCES } from '../store/repository/chain.ts';
import type { Repository } from '../store/repository/repository.ts';
import { highestSequence, placeOf } from '../store/repository/seen-chain.ts';
import type { CopyPlace } from './context.ts';

/** The most time that the copies get to respond, milliseconds. */
const LIMIT_MS = 30_000;

/** The sequences that copies may have. */
interface Copied {
  /** the highest of them; 0: no copy has a snapshot. A new snapshot gets a higher sequence */
  taken: number;
  /** names of the copies that did not answer, and whose highest sequence is not in the agent's state */
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
 * Returns the highest sequence that a snapshot of any copy may have. Call this before continuing a chain that may have
 * lost its end: a new snapshot must not get the sequence of a snapshot in a copy. An empty copy, and one of another
 * repository, count as 0. A copy that does not respond in time counts with the highest sequence that it ever had. If
 * that is unknown, it counts with a number far above all others.
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
      return remembered ?? end + SKIPPED_SEQUENCES;
    }),
  );
  return { taken: Math.max(0, ...(await Promise.all(all))), unknown };
}
