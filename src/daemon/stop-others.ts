import { setTimeout as sleep } from 'node:timers/promises';
import { hasErrno } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { runsUnderWay } from '../run/under-way.ts';

interface StopOthersDeps {
  log: Log;
  journals: string;
  /** id of the agent's own container */
  agentId: string;
  /** true while a run is under way, in this process or in another one of the container */
  isBusy(): Promise<boolean>;
}

const POLL_MS = 100;

/**
 * Passes a stop on to a run started by `docker compose exec`, and waits for its end. The engine sends the signal only
 * to the container's first process, and kills the others when that one has ended.
 */
export async function stopOthers({ log, journals, agentId, isBusy }: StopOthersDeps): Promise<void> {
  const signalled = new Set([process.pid]);
  while (await isBusy()) {
    for (const { start } of await runsUnderWay(journals, { agentId })) {
      const { pid } = start;
      if (pid === undefined || signalled.has(pid)) continue;
      log.info('stopping the run under way in another process', { pid });
      signalled.add(pid);
      try {
        process.kill(pid, 'SIGTERM');
      } catch (error) {
        if (!hasErrno(error, 'ESRCH')) throw error;
      }
    }
    await sleep(POLL_MS);
  }
}
