import { setTimeout as sleep } from 'node:timers/promises';
import { hasErrno } from './errors.ts';
import { openJournals, readJournal } from './journal.ts';
import type { Log } from './log.ts';

export interface StopOthersDeps {
  log: Log;
  journals: string;
  /** id of the agent's own container */
  agentId: string;
  /** true while a run is under way, in this process or in another one of the container */
  isBusy(): Promise<boolean>;
}

const POLL_MS = 100;

/**
 * Hands a stop on to a run started by `docker compose exec`, and waits for its end: the engine tells only the container's
 * first process, and the others are killed when that one has ended.
 */
export async function stopOthers(deps: StopOthersDeps): Promise<void> {
  let told = false;
  while (await deps.isBusy()) {
    // The newest: an older one may be of a run that is long over and could not be undone yet.
    const journal = told ? undefined : (await openJournals(deps.journals)).at(-1);
    const entries = journal ? await readJournal(journal) : [];
    const start = entries.find((entry) => entry.type === 'start');
    const over = entries.some((entry) => entry.type === 'reported');
    // In a spool that is shared, the number of a process in another container means nothing here.
    const here = start?.agent === deps.agentId;
    if (here && start?.pid !== undefined && start.pid !== process.pid && !over) {
      deps.log.info('stopping the run under way in another process', { pid: start.pid });
      told = true;
      try {
        process.kill(start.pid, 'SIGTERM');
      } catch (error) {
        if (!hasErrno(error, 'ESRCH')) throw error;
      }
    }
    await sleep(POLL_MS);
  }
}
