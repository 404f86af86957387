import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { readWalLogs, type WalRepository } from '../store/wal/read-log.ts';

/** A repository that a base backup is made into. */
interface Watching {
  repository: WalRepository;
  log: Log;
  signal: AbortSignal;
}

/**
 * Notes the histories of a server that its stored WAL has when a base backup begins. Times do not show which one the
 * backup belongs to, because a clock may be set back.
 *
 * @param source name of the server
 * @returns a function to call when the backup has ended: returns the number of the first page of the history, by the id
 *   of the server's data; undefined if the log cannot be read. It throws PG_BASE_FAILED if another history began
 *   meanwhile: a recovery would need the WAL of both
 * @throws the signal's reason
 */
export async function watchHistory(
  watching: Watching,
  source: string,
): Promise<(systemId: string) => Promise<number | undefined>> {
  const before = await presentHistory(watching, source);
  return async (systemId) => {
    const era = before(systemId);
    if (era === undefined) return undefined;
    const after = (await presentHistory(watching, source))(systemId);
    if (after === undefined || after === era) return after;
    throw new LifeboatError('PG_BASE_FAILED', 'another history of the WAL began while the base backup was made', {
      hint: 'Lifeboat makes another base backup by itself. `lifeboat windows` says why the history began.',
    });
  };
}

async function presentHistory({ repository, log, signal }: Watching, source: string) {
  try {
    const logs = await readWalLogs(repository, source, signal);
    return (systemId: string): number | undefined => {
      const found = logs.findLast(({ place }) => place.systemId === systemId);
      if (!found) return 1;
      // If the newest page cannot be read, nobody knows its history.
      return found.last?.page.page === found.newest.page ? found.wal.era : undefined;
    };
  } catch (error) {
    signal.throwIfAborted();
    log.debug('the history of the stored WAL is unknown', { source, ...errorInfo(error) });
    return () => undefined;
  }
}
