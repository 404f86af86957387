import { isFuture } from '../plan/values/clock.ts';
import { formatAge, formatAgo, oneLine, plural } from './format.ts';

/** Texts about the last good snapshot of a source. */

/** The last good snapshot of a source. */
export interface LastGoodReport {
  snapshot: string;
  /** ISO time */
  at: string;
  /** no snapshot holds the whole source: this is the newest that holds a part of it */
  partial?: true;
  /** it needs an object that a check found damaged */
  damaged?: true;
}

/** The stored data of a source from before the run that reports it. */
export interface Stored {
  /** the last good snapshot of the source before this run, if any */
  lastGood?: LastGoodReport;
  /** without `lastGood`: the number of snapshots that cannot be used, which may hold the source; absent for none */
  unusable?: number;
  /** ISO time at which a drill last restored the source */
  proven?: string;
}

/** A source that a failed run did not reach. */
export interface NamedStored extends Stored {
  name: string;
}

const NOTHING_STORED = 'nothing is stored of this source yet';
const NONE_USABLE = 'no usable snapshot holds it';

/** Puts the label `safe` before a text of {@link safety}, or `not safe` if no usable snapshot holds the source. */
export function labelled(text: string): string {
  const isNone = [NOTHING_STORED, NONE_USABLE].some((start) => text.startsWith(start));
  return `${isNone ? 'not safe' : 'safe'}: ${text}`;
}

/** Names the last good snapshot of a source that failed. One that holds only a part of the source is not good. */
export function safety({ lastGood, unusable = 0, proven }: Stored, now: Date): string {
  if (lastGood === undefined)
    return unusable === 0 ? NOTHING_STORED : `${NONE_USABLE}; ${plural(unusable, 'snapshot')} cannot be used`;
  const { at, snapshot, partial, damaged } = lastGood;
  const which = partial ? 'no snapshot is whole; the newest (partly failed) snapshot' : 'the last good snapshot';
  const drilled = proven === undefined ? '' : `; a drill restored this source ${formatAgo(new Date(proven), now)}`;
  const name = `(${snapshot})${damaged ? ', but a check found damage in it' : ''}${drilled}`;
  const age = now.getTime() - Date.parse(at);
  if (isFuture(Date.parse(at), now.getTime())) return `${which} is dated in the future ${name}`;
  return `${which} is ${formatAge(age)} old ${name}`;
}

/** Sources about which the same can be said. */
interface SafeGroup {
  /** see {@link safety} */
  text: string;
  names: string[];
}

/** Groups the sources of a run that failed as a whole, because most of them have the same last good snapshot. */
export function groupSafe(safe: readonly NamedStored[], now: Date): SafeGroup[] {
  const groups = Map.groupBy(safe, (one) => safety(one, now));
  return [...groups].map(([text, all]) => ({ text, names: all.map(({ name }) => oneLine(name)) }));
}

/** Returns what is safe of the sources of a run that failed as a whole: `safe: the last good …: db.postgres`. */
export function safeLines({ safe = [] }: { safe?: readonly NamedStored[] }, now: Date): string[] {
  // The snapshot comes first, because a notifier may cut a long list of names.
  return groupSafe(safe, now).map(({ text, names }) => labelled(`${text}: ${names.join(', ')}`));
}
