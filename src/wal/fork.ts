import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { hasSegment, readHistory } from '../sources/postgres/wal/history.ts';
import { segmentAt, segmentName } from '../store/wal/names.ts';
import type { WalWriter } from '../store/wal/write-log.ts';
import type { Reached } from './reach.ts';
import { beginSegment } from './spool/beginning.ts';
import { hasTimeline } from './spool/received-files.ts';

/** A server that was reached, and its log. */
interface Forked extends Pick<Reached, 'tools' | 'session' | 'directory' | 'facts' | 'before'> {
  writer: WalWriter;
}

/** Makes `pg_receivewal` begin where the timeline of a server begins. */
export class Fork {
  private readonly log: Log;
  /** the last timeline that was received from its fork on */
  private begun: number | undefined;

  constructor(log: Log) {
    this.log = log;
  }

  /**
   * Makes `pg_receivewal` begin at the fork of a timeline of which nothing was received, if the server still has that
   * segment. A recovered server has checkpoints and other WAL after the fork, and its new slot begins after them: the
   * times in between could not be recovered before the next base backup. Rejects only when the signal aborts.
   */
  async begin(forked: Forked, signal: AbortSignal): Promise<void> {
    const { timeline } = forked.before;
    // The server had removed the segment when it was asked for it.
    if (this.begun === timeline) return;
    try {
      const name = await findStart(forked, signal);
      if (name === undefined) return;
      await beginSegment(forked.directory, name, forked.facts.segmentSize);
      this.begun = timeline;
      this.log.debug('receiving WAL from the fork of the timeline on', { segment: name });
    } catch (error) {
      signal.throwIfAborted();
      // The WAL is received from the slot on, and a base backup follows.
      this.log.warn('the fork of the timeline could not be found', { timeline, ...errorInfo(error) });
    }
  }
}

/**
 * Returns the name of the segment in which the timeline of a server begins. It has the bytes of the former timeline
 * before the fork, so nothing is missing between the two. Undefined if it needs not or cannot be received.
 */
async function findStart(
  { tools, session, directory, facts, before, writer }: Forked,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { timeline } = before;
  const { segmentSize: size } = facts;
  const { inventory } = writer;
  // Without WAL of the former timeline, a base backup is needed in any case.
  if (timeline === 1 || inventory.isEmpty || inventory.endOf(timeline) !== undefined) return undefined;
  if (await hasTimeline(directory, timeline, size)) return undefined;
  const fork = (await readHistory(tools, timeline, signal)).at(-1);
  const name = fork && segmentName({ timeline, number: segmentAt(fork.until, size) }, size);
  return name !== undefined && (await hasSegment(session, name)) ? name : undefined;
}
