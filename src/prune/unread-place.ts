import { breaksOf, chainOf, type Link } from '../store/repository/chain.ts';
import type { Place, SnapshotList } from '../store/repository/repository.ts';
import type { Tombstone } from '../store/repository/tombstones.ts';

/** The place of an unreadable manifest in the chain. No I/O. */

/** The known part of the chain around the manifest. */
interface Around {
  list: Pick<SnapshotList, 'snapshots' | 'damaged'>;
  /** those that explain gaps */
  tombstones: readonly Tombstone[];
  /** the places of the snapshots that the agent has seen */
  seen: readonly Place[];
  /** hex SHA-256 to use if the hash of the manifest is unknown and no other manifest names it */
  own: string;
}

/**
 * Returns the place in the chain that the tombstone of an unreadable manifest takes, so that the chain has no gap
 * there: the place where the agent has seen it, or where a later manifest names a predecessor that is unknown, or else
 * a free place by its date.
 */
export function findUnreadPlace(
  id: string,
  { list, tombstones, seen, own }: Around,
): { sequence: number; previous: string | null; hash: string } {
  const chain = chainOf(
    list.snapshots,
    tombstones.filter((one) => one.id !== id),
  );
  const before = (sequence: number) => chain.findLast((link) => link.sequence < sequence)?.hash ?? null;
  const known = seen.find((one) => one.id === id);
  if (known) return { sequence: known.sequence, previous: before(known.sequence), hash: known.hash };
  const gap = gapOf(id, chain);
  const unread = list.damaged.map((one) => one.id).filter((one) => one > gap.after && (!gap.end || one <= gap.end.id));
  const later = unread.filter((one) => one > id).length;
  const earlier = unread.filter((one) => one < id).length;
  const sequence = gap.end ? Math.max(gap.low + 1, gap.end.sequence - 1 - later) : gap.low + 1 + earlier;
  // The next manifest names the last one before it. Those before that one are named by none that can be read.
  const named = later === 0 ? gap.end?.previous : undefined;
  return { sequence, previous: before(sequence), hash: named ?? own };
}

/** A part of the chain in which a manifest may be missing. */
interface Gap {
  /** id and sequence of the link before it; empty and 0 at the beginning */
  after: string;
  low: number;
  /** the link after it; absent at the end of the chain */
  end?: Pick<Link, 'id' | 'sequence'> & { previous?: string };
}

/** Finds the gap for an id: one that a manifest names, preferably where the date fits, else the one of its date. */
function gapOf(id: string, chain: readonly Link[]): Gap {
  const gaps = breaksOf(chain).map(({ link }): Gap => {
    const { previous, ...end } = link;
    const last = chain[chain.indexOf(link) - 1];
    const named = previous === null ? {} : { previous };
    return { after: last?.id ?? '', low: last?.sequence ?? 0, end: { ...end, ...named } };
  });
  const free = gaps.filter(({ low, end }) => end && end.sequence - low > 1);
  const dated = free.find(({ after, end }) => id > after && end && id < end.id);
  if (dated) return dated;
  const at = chain.findIndex((link) => link.id > id);
  const last = chain[at < 0 ? chain.length - 1 : at - 1];
  const next = at < 0 ? undefined : chain[at];
  const low = last?.sequence ?? 0;
  const byDate: Gap = {
    after: last?.id ?? '',
    low,
    ...(next ? { end: { id: next.id, sequence: next.sequence } } : {}),
  };
  if (!next || next.sequence - low > 1) return free[0] ?? byDate;
  // There is no room by its date: a clock was wrong. The end of the chain always has room.
  const end = chain.at(-1);
  return free[0] ?? { after: end?.id ?? '', low: end?.sequence ?? 0 };
}
