import { hasCode, type LifeboatError } from '../base/errors.ts';
import type { BaseSource } from '../plan/model.ts';
import type { ReplicationFacts } from '../sources/postgres/wal/replication.ts';
import type { SlotState } from '../sources/postgres/wal/slot.ts';
import { formatLsn } from '../store/wal/names.ts';
import { lostEnd, type RememberedWal, type Replacement } from '../store/wal/remembered.ts';
import { WalWriter } from '../store/wal/write-log.ts';
import type { ReceiverDeps } from './receiver-deps.ts';
import type { Waiting } from './waiting.ts';

interface OpenOptions {
  deps: Pick<ReceiverDeps, 'project' | 'repository' | 'now' | 'feed'>;
  source: Pick<BaseSource, 'server'>;
  /** what the agent remembers of the stored WAL */
  remembered: RememberedWal | undefined;
  /** tells people about an error that the receiver survives */
  raise(error: LifeboatError): void;
}

interface Opening {
  home: string;
  before: SlotState;
  diverged?: LifeboatError | undefined;
  replacement?: Replacement | undefined;
}

/**
 * Leaves the received WAL of a history that ends: stores it, before the log is opened to begin another one.
 *
 * @param opening as in {@link openLog}
 */
export async function leaveHistory(
  waiting: Pick<Waiting, 'storeRest' | 'leaveDiverged' | 'leaveAll'>,
  { before, diverged, replacement }: Opening,
  signal: AbortSignal,
): Promise<void> {
  // The clock says nothing about the bytes: what was received before it went back belongs to the former history. So
  // does what was received before a tablespace was created.
  if (hasCode(diverged, 'CLOCK_JUMPED', 'PG_REPLICATION')) await waiting.storeRest(signal);
  // Only then, what was received may be of both histories.
  if (hasCode(diverged, 'WAL_DIVERGED')) await waiting.leaveDiverged(before, signal);
  // What was received until then is of the history that the data replaces.
  if (replacement) await waiting.leaveAll(signal);
}

/**
 * Opens the log of a server, to store more of its WAL. Throws like {@link WalWriter.open}.
 *
 * @param home id of the agent's memory; `before`: the server's position; `diverged`: why another history of the server
 * begins, if one does; `replacement`: the data that the server got from a recovery. If that is of an earlier history,
 * another one begins too: its WAL does not follow that of the last one
 * @returns whether another history began
 */
export async function openLog(
  { deps, source, remembered, raise }: OpenOptions,
  { systemId, segmentSize }: Pick<ReplicationFacts, 'systemId' | 'segmentSize'>,
  { home, before, diverged, replacement }: Opening,
  signal: AbortSignal,
): Promise<{ writer: WalWriter; isAnew: boolean }> {
  const repository = await deps.repository();
  const place = { project: deps.project, source: source.server, systemId };
  const { now, feed: appended } = deps;
  const writer = await WalWriter.open(repository, { place, segmentSize, home, now, appended }, signal);
  const lost = lostEnd(repository, source.server, writer.opened, remembered);
  if (lost) raise(lost);
  const { unusable } = writer;
  const begin = (why: string) => {
    const to = formatLsn(before.flushed);
    return writer.beginAnew({ at: deps.now().toISOString(), timeline: before.timeline, to, why });
  };
  // People hear of it once it has begun: a destination that refuses it is asked again and again.
  if (unusable) {
    try {
      await begin(`the newest page of the log cannot be used: ${unusable.message}`);
    } finally {
      // If only the step after its page failed, the next attempt finds a log that can be used. A log from before the
      // signing key was set is no trouble.
      if (writer.end && !hasCode(unusable, 'SIGNATURE_MISSING')) raise(unusable);
    }
  }
  const isOther = replacement !== undefined && replacement.era !== writer.era;
  const { isEmpty, hasHistories } = writer.inventory;
  if (diverged && (!isEmpty || (hasHistories && hasCode(diverged, 'WAL_DIVERGED')))) {
    await begin(diverged.message);
    raise(diverged);
  } else if (diverged && writer.begun?.why === diverged.message) {
    // An earlier attempt began it, and failed after that: perhaps nobody heard of it.
    raise(diverged);
  } else if (isOther && !isEmpty) {
    await begin('a recovery in place brought back data of an earlier history of the server');
  }
  return { writer, isAnew: diverged !== undefined || isOther };
}
