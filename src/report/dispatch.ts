import { aborted } from '../base/abort.ts';
import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
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

/** What a dispatcher works with. `limitMs`: how long a listener may take for the end of a run, milliseconds. */
interface Rules {
  log: Log;
  limitMs: number;
}

/**
 * Each listener gets the events in order, one at a time, on its own: a slow one does not delay another. Of the progress
 * events that wait, only the newest of each source is kept. A listener that throws, rejects or takes too long is logged.
 * One that ignores its signal is left behind, and gets the next event all the same.
 */
export function createDispatcher(
  listeners: readonly Listener[],
  { log, limitMs = 30_000 }: Pick<Rules, 'log'> & Partial<Rules>,
): Dispatcher {
  const lanes = listeners.map((listener): Lane => ({ listener, queue: [], running: undefined, controller: undefined }));
  return {
    emit(event) {
      for (const lane of lanes) {
        enqueue(lane.queue, event);
        // Started in a microtask: a listener's synchronous part never runs inside the run's own call.
        lane.running ??= Promise.resolve().then(() => work(lane, { log, limitMs }));
      }
    },

    async settle(limit = limitMs) {
      const timer = setTimeout(() => {
        for (const lane of lanes) abandon(lane, log);
      }, limit);
      await Promise.all(lanes.map((lane) => lane.running));
      clearTimeout(timer);
    },
  };
}

/** Hands the queued events of a lane to its listener until none is left. */
async function work(lane: Lane, rules: Rules): Promise<void> {
  for (let event = lane.queue.shift(); event !== undefined; event = lane.queue.shift()) {
    const outcome = await handOver(lane, event, rules);
    // A listener that hangs on one progress event would hang on the others too; the end of the run still reaches it.
    if (outcome === 'late' && !isEnd(event)) lane.queue = lane.queue.filter(isEnd);
  }
  lane.running = undefined;
}

/** Hands one event to a listener and waits for it within its limit. Never rejects. */
async function handOver(lane: Lane, event: RunEvent, { log, limitMs }: Rules): Promise<'done' | 'late'> {
  const controller = new AbortController();
  lane.controller = controller;
  const limit = isEnd(event) ? limitMs : limitMs * EARLY_SHARE;
  const timer = setTimeout(() => controller.abort(), limit);
  const late = aborted(controller.signal).then(() => 'late' as const);
  const handled = (async () => {
    await lane.listener.handle(event, controller.signal);
    return 'done' as const;
  })();
  const fields = { listener: lane.listener.name, event: event.type };
  try {
    const outcome = await Promise.race([handled, late]);
    if (outcome === 'late') log.warn('a listener took too long and was left behind', fields);
    return outcome;
  } catch (error) {
    log.warn('a listener failed', { ...fields, ...errorInfo(error) });
    return 'done';
  } finally {
    clearTimeout(timer);
    lane.controller = undefined;
    handled.catch(() => {}); // a late rejection has been logged as late
  }
}

/** Drops what still waits in a lane whose listener hangs, and aborts what it works on. */
function abandon(lane: Lane, log: Log): void {
  if (lane.running === undefined) return;
  if (lane.queue.length > 0) {
    log.warn('events were not told in time', { listener: lane.listener.name, dropped: lane.queue.length });
  }
  lane.queue = [];
  lane.controller?.abort();
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
