import type { Engine, EventsOptions } from './engine.ts';

/** A signal that the engine sent to a container, because somebody asked for it. */
export interface Kill {
  id: string;
  labels: Record<string, string>;
  /** seconds since the epoch, by the engine's clock */
  at: number;
  signal: number;
}

/** How long a container that says nothing else may take to stop before it is killed, seconds: Docker's own default. */
export const STOP_TIMEOUT_S = 10;

/** How long the engine may take to tell what it remembers, milliseconds. */
const LIMIT_MS = 5000;

/** HUP, USR1, USR2: for a service to read its settings or open its logs again; they ask none to end. */
const HARMLESS = new Set([1, 10, 12]);

/**
 * The signals that asked containers to end, oldest first, as far as the engine remembers. A stop of a container that has
 * ended already leaves no trace in the engine (Docker 20.10: status 304 and no event). Resolves to none when the engine
 * cannot be asked: nothing follows from that.
 */
export async function killsSince(
  engine: Pick<Engine, 'events'>,
  since: Date,
  which: Pick<EventsOptions, 'containers' | 'labels'>,
): Promise<Kill[]> {
  const kills: Kill[] = [];
  const limit = AbortSignal.timeout(LIMIT_MS);
  try {
    const times = { since: since.getTime() / 1000, until: Date.now() / 1000 };
    const events = await engine.events({ ...which, ...times, actions: ['kill'], signal: limit });
    for await (const { id, time, attributes } of events) {
      const signal = Number(attributes.signal);
      if (!HARMLESS.has(signal)) kills.push({ id, labels: attributes, at: time, signal });
    }
  } catch {
    return kills;
  }
  return kills;
}
