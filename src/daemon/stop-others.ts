import { setTimeout as sleep } from 'node:timers/promises';
import { hasErrno } from '../base/errors.ts';
import type { Log } from '../base/log.ts';

interface StopOthersDeps {
  log: Log;
  /** returns the process ids of the other commands of this container */
  others(): Promise<number[]>;
  /** true while a run is under way, in this process or in another one of the container */
  isBusy(): Promise<boolean>;
}

const POLL_MS = 100;

/**
 * Passes a stop on to the commands started by `docker compose exec`, and waits for their ends. The engine sends the
 * signal only to the container's first process, and kills the others when that one has ended.
 */
export async function stopOthers({ log, others, isBusy }: StopOthersDeps): Promise<void> {
  const signalled = new Set<number>();
  for (;;) {
    const pids = await others();
    if (pids.length === 0 && !(await isBusy())) return;
    for (const pid of pids) {
      if (signalled.has(pid)) continue;
      log.info('stopping the command in another process', { pid });
      signalled.add(pid);
      try {
        process.kill(pid, 'SIGTERM');
      } catch (error) {
        if (!hasErrno(error, 'ESRCH', 'EPERM')) throw error;
      }
    }
    await sleep(POLL_MS);
  }
}
