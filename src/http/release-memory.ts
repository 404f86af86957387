import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { MiddlewareHandler } from 'hono';

/** The time after a request in which others may follow, milliseconds. */
const QUIET_MS = 5000;

/**
 * Creates a middleware that collects garbage once requests have ceased. V8 lets the heap of the agent grow to several
 * times its content, because backups run faster then. What a page or a scrape leaves behind would stay for hours in a
 * process that has nothing else to do.
 *
 * @param isBusy whether a run is in progress, which must not wait for a collection
 */
export function createMemoryRelease(
  isBusy: () => Promise<boolean>,
  { quietMs = QUIET_MS, collect = collectorOf() }: { quietMs?: number; collect?: () => void } = {},
): MiddlewareHandler {
  let isPlanned = false;
  return async (_context, next) => {
    await next();
    if (isPlanned) return;
    isPlanned = true;
    setTimeout(() => {
      isPlanned = false;
      isBusy().then(
        (busy) => (busy ? undefined : collect()),
        () => undefined,
      );
    }, quietMs).unref();
  };
}

/** Node has no other way to collect garbage in a process that was started without `--expose-gc`. */
function collectorOf(): () => void {
  let gc: ((options: object) => void) | undefined;
  return () => {
    if (!gc) {
      setFlagsFromString('--expose-gc');
      gc = runInNewContext('gc') as (options: object) => void;
    }
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  };
}
