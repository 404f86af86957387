import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { logReport } from '../report/log-lines.ts';
import type { State } from '../run/state.ts';

/**
 * Returns a function that logs the last run if it has not logged it before. This includes runs of `docker compose
 * exec`. Their output is only on their terminal, and `docker compose logs` shows only the log of the daemon.
 */
export function createRunLogger({ state, log }: { state: Pick<State, 'lastRun'>; log: Log }): () => Promise<void> {
  let logged: string | undefined;
  let first = true;
  return async () => {
    const last = await state.lastRun().catch(() => undefined);
    // At the start of the daemon, the last run is an old one.
    const isOld = first;
    first = false;
    if (!last || last.id === logged) return;
    logged = last.id;
    if (isOld) return;
    try {
      logReport(log, last);
    } catch (error) {
      log.warn('the last run cannot be logged', { ...errorInfo(error) });
    }
  };
}
