import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../base/log.ts';
import type { Plan } from '../plan/model.ts';
import type { Progress } from '../report/events.ts';

interface PlanWhenUpDeps {
  plan(): Promise<Plan>;
  /** called once for each container that the run waits for */
  progress(progress: Progress): void;
  log: Log;
  signal: AbortSignal;
}

/** The longest wait, milliseconds. `awaited` compares clock times, and clocks may be wrong. */
const LIMIT_MS = 240_000;
const POLL_MS = 1000;

/**
 * Returns the plan once no container is about to start (see awaited.ts), or after the longest wait.
 *
 * @throws the errors of `plan`, and the reason of the signal
 */
export async function planWhenUp({ plan, progress, log, signal }: PlanWhenUpDeps): Promise<Plan> {
  const end = performance.now() + LIMIT_MS;
  const announced = new Set<string>();
  for (;;) {
    const found = await plan();
    const { awaited = [] } = found;
    if (awaited.length === 0 || performance.now() > end) return found;
    for (const container of awaited.filter((name) => !announced.has(name))) {
      announced.add(container);
      log.info('waiting for a container to start', { container });
      progress({ source: container, phase: 'waiting for the container to start', done: 0, waits: true });
    }
    await sleep(POLL_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
