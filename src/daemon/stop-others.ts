import { setTimeout as sleep } from 'node:timers/promises';
import { hasErrno } from '../base/errors.ts';
import type { Log } from '../base/log.ts';

export interface StopOthersDeps {
  log: Log;
  /** returns the process ids of the other commands of this container */
  others(): Promise<number[]>;
  /** true while a run is under way, in this process or in another one of the container */
  isBusy(): Promise<boolean>;
  /** how long a stop waits for commands while no run is under way, milliseconds; default {@link IDLE_WAIT_MS} */
  idleWaitMs?: number;
}

const POLL_MS = 100;
/** A command whose output nobody reads, such as one in a pager, never sees the signal. */
const IDLE_WAIT_MS = 5000;

/**
 * Passes a stop on to the commands started by `docker compose exec`, and waits for their ends: without limit while a
 * run is under way, and then for some seconds. The engine sends the signal only to the container's first process, and
 * kills the others when that one has ended.
 */
export async function stopOthers({ log, others, isBusy, idleWaitMs = IDLE_WAIT_MS }: StopOthersDeps): Promise<void> {
  const signalled = new Set<number>();
  let busyAt = performance.now();
  for (;;) {
    const pids = await others();
    if (await isBusy()) busyAt = performance.now();
    else if (pids.length === 0) return;
    else if (performance.now() - busyAt >= idleWaitMs) {
      log.warn('commands in other processes do not end; the container stops without waiting for them', { pids });
      return;
    }
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
