import { errorInfo } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Listener, RunEvent } from './events.ts';

/** Hands the events of runs to listeners, so that nothing a listener does can change or hold up a run. */
export interface Dispatcher {
  /** Returns at once and never throws. */
  emit(event: RunEvent): void;
  /**
   * Waits until every listener has dealt with what was emitted, at most the limit (milliseconds, default the
   * dispatcher's); what still hangs then is aborted and logged. Never rejects. The dispatcher can be used again after.
   */
  settle(limitMs?: number): Promise<void>;
}

/** One listener with what waits for it. */
interface Lane {
  listener: Listener;
  queue: RunEvent[];
  /** set while the listener works */
  running: Promise<void> | undefined;
  controller: AbortController | undefined;
}

/** An event before the end of a run may take this part of the limit, so that the end itself is always told. */
const EARLY_SHARE = 1 / 3;

function isEnd({ type }: RunEvent): boolean {
  return type === 'run-finished' || type === 'restore-finished';
}

/**
 * Each listener gets the events in order, one at a time, on its own: a slow one does not delay another. Of the progress
 * events that wait, only the newest of each source is kept. A listener that throws, rejects or takes too long is logged.
 * One that ignores its signal is left behind, and gets the next event all the same.
 */
export function createDispatcher(
  listeners: readonly Listener[],
  { log, limitMs = 30_000 }: { log: Log; limitMs?: number },
): Dispatcher {
  const lanes = listeners.map((listener): Lane => ({ listener, queue: [], running: undefined, controller: undefined }));

  async function work(lane: Lane): Promise<void> {
    for (let event = lane.queue.shift(); event !== undefined; event = lane.queue.shift()) {
      const outcome = await handOver(lane, event);
      if (outcome === 'late' && !isEnd(event)) {
        // Whoever hangs on these would hang on the rest of them too; the end of the run still reaches it.
        lane.queue = lane.queue.filter(isEnd);
      }
    }
    lane.running = undefined;
  }

  async function handOver(lane: Lane, event: RunEvent): Promise<'done' | 'late'> {
    const controller = new AbortController();
    lane.controller = controller;
    const limit = isEnd(event) ? limitMs : limitMs * EARLY_SHARE;
    const timer = setTimeout(() => controller.abort(), limit);
    const late = new Promise<'late'>((resolve) => {
      controller.signal.addEventListener('abort', () => resolve('late'), { once: true });
    });
    const told = (async () => {
      await lane.listener.handle(event, controller.signal);
      return 'done' as const;
    })();
    const fields = { listener: lane.listener.name, event: event.type };
    try {
      const outcome = await Promise.race([told, late]);
      if (outcome === 'late') log.warn('a listener took too long and was left behind', fields);
      return outcome;
    } catch (error) {
      log.warn('a listener failed', { ...fields, ...errorInfo(error) });
      return 'done';
    } finally {
      clearTimeout(timer);
      lane.controller = undefined;
      told.catch(() => {}); // a late rejection has been logged as late
    }
  }

  return {
    emit(event) {
      for (const lane of lanes) {
        enqueue(lane.queue, event);
        // Started in a microtask: a listener's synchronous part never runs inside the run's own call.
        lane.running ??= Promise.resolve().then(() => work(lane));
      }
    },

    async settle(limit = limitMs) {
      const timer = setTimeout(() => {
        for (const lane of lanes) {
          if (lane.running === undefined) continue;
          if (lane.queue.length > 0) {
            log.warn('events were not told in time', { listener: lane.listener.name, dropped: lane.queue.length });
          }
          lane.queue = [];
          lane.controller?.abort();
        }
      }, limit);
      await Promise.all(lanes.map((lane) => lane.running));
      clearTimeout(timer);
    },
  };
}

function enqueue(queue: RunEvent[], event: RunEvent): void {
  if (event.type === 'progress') {
    const { source } = event.progress;
    const waiting = queue.findIndex((other) => other.type === 'progress' && other.progress.source === source);
    if (waiting >= 0) {
      queue[waiting] = event;
      return;
    }
  }
  queue.push(event);
}
