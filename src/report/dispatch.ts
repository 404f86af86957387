import { aborted, onAbort, waitAtMost } from '../base/abort.ts';
import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Listener, RunEvent } from './events.ts';

/** Passes the events of runs to listeners. Nothing that a listener does can change or delay a run. */
export interface Dispatcher {
  /** Returns at once and never throws. */
  emit(event: RunEvent): void;
  /**
   * Waits until the listeners have handled all events, at most for `limitMs` (milliseconds, default: the dispatcher's
   * limit). Then aborts and logs the listeners that still hang, and gives them a few seconds to keep what waits. Never
   * rejects. The dispatcher stays usable.
   */
  flush(limitMs?: number): Promise<void>;
}

/** One listener and its queue. */
interface Lane {
  listener: Listener;
  queue: RunEvent[];
  /** set while the listener works */
  running: Promise<void> | undefined;
  controller: AbortController | undefined;
}

/** The share of the limit for an event before the end of a run, so there is always time for the end itself. */
const EARLY_SHARE = 1 / 3;

const ENDS: readonly RunEvent['type'][] = ['run-finished', 'restore-finished', 'drill-finished', 'alarms', 'letter'];

function isEnd({ type }: RunEvent): boolean {
  return ENDS.includes(type);
}

/**
 * `limitMs`: how long a listener may take for the end of a run; `keepMs`: to keep the events that wait. Milliseconds.
 */
interface Rules {
  log: Log;
  limitMs: number;
  keepMs: number;
}

/**
 * Creates a dispatcher. Each listener gets the events in order, one at a time, and a slow one does not delay the
 * others. Of the waiting progress events, only the newest of each source stays. A listener that throws, rejects or
 * takes too long is logged. One that ignores its signal still gets the next event.
 */
export function createDispatcher(
  listeners: readonly Listener[],
  { log, limitMs = 30_000, keepMs = 5000 }: Pick<Rules, 'log'> & Partial<Rules>,
): Dispatcher {
  const lanes = listeners.map((listener): Lane => ({ listener, queue: [], running: undefined, controller: undefined }));
  return {
    emit(event) {
      for (const lane of lanes) {
        enqueue(lane.queue, event);
        // In a microtask, so no code of a listener runs inside the caller's own code.
        lane.running ??= Promise.resolve().then(() => work(lane, { log, limitMs, keepMs }));
      }
    },

    async flush(limit = limitMs) {
      const kept: Promise<void>[] = [];
      const timer = setTimeout(() => {
        for (const lane of lanes) kept.push(abandon(lane, { log, keepMs }));
      }, limit);
      await Promise.all(lanes.map((lane) => lane.running));
      clearTimeout(timer);
      await Promise.all(kept);
    },
  };
}

/** An interrupted run waits this long for its listeners, milliseconds. */
const INTERRUPTED_FLUSH_MS = 4000;

/**
 * Waits for the listeners: only some seconds once the run is asked to stop, because a slow one may take half a minute.
 * Never rejects.
 */
export async function flushWithin(dispatcher: Dispatcher, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return dispatcher.flush(INTERRUPTED_FLUSH_MS);
  const forget = onAbort(signal, () => void dispatcher.flush(INTERRUPTED_FLUSH_MS));
  await dispatcher.flush();
  forget();
}

/** Passes the queued events of a lane to its listener until none is left. */
async function work(lane: Lane, rules: Rules): Promise<void> {
  for (let event = lane.queue.shift(); event !== undefined; event = lane.queue.shift()) {
    const outcome = await deliver(lane, event, rules);
    // A listener that hangs on one progress event would hang on the others too. It still gets the end of the run.
    if (outcome === 'late' && !isEnd(event)) lane.queue = lane.queue.filter(isEnd);
  }
  lane.running = undefined;
}

/** Passes one event to a listener, and waits for it within its limit. Never rejects. */
async function deliver(lane: Lane, event: RunEvent, { log, limitMs }: Rules): Promise<'done' | 'late'> {
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
    if (outcome === 'late') log.warn('a listener took too long', fields);
    return outcome;
  } catch (error) {
    log.warn('a listener failed', { ...fields, ...errorInfo(error) });
    return 'done';
  } finally {
    clearTimeout(timer);
    lane.controller = undefined;
    handled.catch(() => {}); // already logged as late
  }
}

/** Takes the waiting events from a listener that hangs, and aborts the one it works on. Never rejects. */
async function abandon(lane: Lane, { log, keepMs }: Pick<Rules, 'log' | 'keepMs'>): Promise<void> {
  if (lane.running === undefined) return;
  const { listener, queue } = lane;
  lane.queue = [];
  lane.controller?.abort();
  if (queue.length === 0) return;
  let later = 0;
  const keepAll = async () => {
    for (const event of queue) if (await keepOne(listener, event, log)) later++;
  };
  await waitAtMost(keepMs, keepAll());
  const dropped = queue.length - later;
  const fields = { ...(later > 0 ? { later } : {}), ...(dropped > 0 ? { dropped } : {}) };
  log.warn('events were not delivered in time', { listener: listener.name, ...fields });
}

async function keepOne(listener: Listener, event: RunEvent, log: Log): Promise<boolean> {
  try {
    return (await listener.keep?.(event)) ?? false;
  } catch (error) {
    log.warn('a listener failed', { listener: listener.name, event: event.type, ...errorInfo(error) });
    return false;
  }
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
