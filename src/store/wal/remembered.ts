import { LifeboatError } from '../../base/errors.ts';
import type { Repository } from '../repository/repository.ts';
import type { StoredWal } from './coverage.ts';
import type { WalLog } from './read-log.ts';

/** The end of a log that the agent has written: its newest page. */
export interface LogEnd {
  /** name of the destination that holds it */
  destination: string;
  page: number;
  revision: number;
}

/** The stored WAL of a server, as far as the agent remembers it. */
export interface RememberedWal {
  systemId: string;
  logged?: LogEnd | undefined;
  confirmed?: StoredWal['confirmed'];
  /** the timeline on which the server writes, as far as it is known */
  timeline?: number | undefined;
  /** the data that a recovery puts in place, until the receiver has reached the server */
  replacement?: Replacement | undefined;
}

/** Recovered data that replaces that of a server. */
export interface Replacement {
  systemId: string;
  /** the timeline that the recovered server writes on */
  timeline: number;
  /**
   * number of the first page of the history of the WAL that it was recovered from; absent: the WAL is that of another
   * repository
   */
  era?: number;
}

/** Returns what the agent remembers of the stored WAL of a source. */
export type Remembering = (source: string) => Promise<RememberedWal | undefined>;

/**
 * Returns an error if a log lacks the newest page that the agent has stored, or its newest revision. No other page
 * names that one, so only the agent's memory shows that it was removed.
 */
export function lostEnd(
  { destination }: Pick<Repository, 'destination'>,
  source: string,
  logs: readonly Pick<WalLog, 'place' | 'newest'>[],
  remembered: RememberedWal | undefined,
): LifeboatError | undefined {
  const { systemId, logged } = remembered ?? {};
  if (!logged || logged.destination !== destination.name) return undefined;
  // A page that is there and cannot be used is another problem, which the reader of the log has noted.
  const last = logs.find(({ place }) => place.systemId === systemId)?.newest;
  if (last && (last.page > logged.page || (last.page === logged.page && last.revision >= logged.revision)))
    return undefined;
  const found = last ? `ends with page ${last.page}, revision ${last.revision}` : 'is gone';
  return new LifeboatError(
    'CHAIN_BROKEN',
    `the WAL log of ${source} ${found}, although page ${logged.page}, revision ${logged.revision} was stored`,
    { hint: 'Somebody removed it from the repository. The WAL that only it listed is lost: see `lifeboat windows`.' },
  );
}
