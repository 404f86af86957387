import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../base/log.ts';
import type { Plan } from '../plan/model.ts';
import type { Progress } from '../report/events.ts';

interface PlanWhenUpDeps {
  plan(): Promise<Plan>;
  /** hears what is waited for, once for each container */
  progress(progress: Progress): void;
  log: Log;
  signal: AbortSignal;
}

/** In no case is it waited longer, milliseconds: what is awaited goes by clocks, which may be wrong. */
const LIMIT_MS = 240_000;
const POLL_MS = 1000;

/**
 * The plan once the containers that are about to start have started (see awaited.ts), or are not about to any more. Throws as
 * `plan` does, and what the signal aborts with.
 */
export async function planWhenUp({ plan, progress, log, signal }: PlanWhenUpDeps): Promise<Plan> {
  const end = performance.now() + LIMIT_MS;
  const told = new Set<string>();
  for (;;) {
    const found = await plan();
    const { awaited = [] } = found;
    if (awaited.length === 0 || performance.now() > end) return found;
    for (const container of awaited.filter((name) => !told.has(name))) {
      told.add(container);
      log.info('waiting for a container to start', { container });
      progress({ source: container, phase: 'waiting for the container to start', done: 0, waits: true });
    }
    await sleep(POLL_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
