import { parseLsn, segmentAt, startOf } from '../../store/wal/names.ts';
import { findFirst, type StoredHistoryOf } from '../../store/wal/scan-stored.ts';
import { holds, type Window } from '../../store/wal/windows.ts';
import { endOfTransaction, isCommit } from './find-marker.ts';

/**
 * Returns whether a time means a window although a window of another timeline may have another state then: both have
 * the same state, or the server was already in use on the timeline of the first one, and no more on the other one.
 * Throws like {@link isSameState}.
 */
export async function isMeant(
  stored: Omit<StoredHistoryOf, 'timeline'>,
  [one, other]: readonly [Window, Window],
  time: Date,
): Promise<boolean> {
  if (await isSameState(stored, [one, other], time)) return true;
  return !holds(other, time) && (await isInUse(stored, [one, other], time));
}

/**
 * Returns whether a transaction had committed on one side of a fork by a time. Nothing commits in a recovered server
 * before it is put in place: checks of it end with a rollback.
 */
async function isInUse(
  stored: Omit<StoredHistoryOf, 'timeline'>,
  [{ timeline, forks, toLsn }, other]: readonly [Window, Window],
  time: Date,
): Promise<boolean> {
  const fork = forks.find((one) => one.timeline === other.timeline);
  const span = { from: parseLsn(fork?.lsn ?? toLsn), to: parseLsn(toLsn) };
  if (span.from >= span.to) return false;
  const { found } = await findFirst({ ...stored, timeline }, span, (record) =>
    isCommit(record) ? endOfTransaction(record)?.time : undefined,
  );
  return found !== undefined && found.what.getTime() <= time.getTime();
}

/**
 * Returns whether two timelines of a server have the same state at a time, although one of them may have been in use
 * and the other one not: no transaction ended between the place at which they parted and that time. A recovery stops
 * before the first transaction that ended later. Reads the WAL around that place.
 *
 * @throws OBJECT_*, KEY_*, DEST_*
 */
async function isSameState(
  stored: Omit<StoredHistoryOf, 'timeline'>,
  [one, other]: readonly [Window, Window],
  time: Date,
): Promise<boolean> {
  const fork = one.forks.find(({ timeline }) => timeline === other.timeline);
  if (!fork) return false;
  const { segmentSize } = stored.log.wal;
  const position = parseLsn(fork.lsn);
  const isLater = (ended: Date) => ended.getTime() > time.getTime();
  const before = { from: startOf(segmentAt(position, segmentSize), segmentSize), to: position };
  const { found } = await findFirst({ ...stored, timeline: one.timeline }, before, (record) => {
    const ended = endOfTransaction(record);
    return ended && isLater(ended.time) ? ended.time : undefined;
  });
  if (found) return true;
  for (const { timeline, toLsn } of [one, other]) {
    const after = { from: position, to: parseLsn(toLsn) };
    if (after.from >= after.to) continue;
    const first = await findFirst({ ...stored, timeline }, after, (record) => endOfTransaction(record)?.time);
    // Nobody knows what is in WAL of an unknown program.
    if (first.found ? !isLater(first.found.what) : !first.isAll || first.records === 0) return false;
  }
  return true;
}
