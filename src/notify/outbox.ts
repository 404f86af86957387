import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Message } from './message.ts';

/** Messages that wait for a channel to work again. When there are more, the oldest one is dropped. */
const MAX_WAITING = 20;
/** When messages that could not be sent are tried again, milliseconds after the last try. */
const AGAIN_MS = [60_000, 5 * 60_000, 15 * 60_000, 30 * 60_000, 60 * 60_000] as const;
/** A message that is older is news to nobody, milliseconds. */
const GIVE_UP_MS = 6 * 60 * 60_000;
/** After this time, a message says when it is from. Milliseconds. */
const LATE_MS = 5 * 60_000;
/** The time limit for a later try, milliseconds. */
const TRY_MS = 30_000;

/** Where the messages go: a channel. */
interface Sender {
  readonly name: string;
  /** @throws NOTIFY_FAILED */
  send(message: Message, signal: AbortSignal): Promise<unknown>;
}

/** Options of {@link createOutbox}. */
interface OutboxOptions {
  log: Log;
  /** milliseconds since 1970 */
  now(): number;
  againMs?: readonly number[] | undefined;
}

/** A message that is not sent yet, and when it was worded, milliseconds since 1970. */
interface Waiting {
  message: Message;
  at: number;
}

/** The messages of one channel, sent in their order. */
interface Outbox {
  /**
   * Sends a message, and those that wait before it. If that fails, they wait in memory and are tried again for some
   * hours while the process lives.
   *
   * @throws NOTIFY_FAILED
   */
  put(message: Message, signal: AbortSignal): Promise<void>;
}

/** Creates the outbox of a channel. */
export function createOutbox(channel: Sender, { log, now, againMs = AGAIN_MS }: OutboxOptions): Outbox {
  const waiting: Waiting[] = [];
  let sending: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  let failures = 0;

  const send = async (one: Waiting, signal: AbortSignal) => {
    await channel.send(dated(one, now()), signal);
    remove(waiting, one);
  };

  /** Sends what waits, oldest first, until one fails. */
  async function drain(signal: AbortSignal): Promise<void> {
    for (let first = waiting[0]; first !== undefined; first = waiting[0]) {
      try {
        await send(first, signal);
      } catch (error) {
        const newest = waiting.at(-1);
        if (newest === undefined || newest === first) throw error;
        // A message that is refused for good must not hold up the others. One that met the end of an outage stays.
        await send(newest, signal);
        const cause: unknown = await send(first, signal).catch((again: unknown) => again);
        if (signal.aborted && cause) throw cause;
        remove(waiting, first);
        if (cause) logDropped('a message was refused', [first], { log, channel, cause });
      }
    }
    failures = 0;
  }

  function later(): void {
    clearTimeout(timer);
    const pause = againMs[Math.min(failures, againMs.length - 1)] ?? 0;
    failures++;
    const old = waiting.findLastIndex(({ at }) => now() - at >= GIVE_UP_MS);
    logDropped('a message was never sent: it is too old', waiting.splice(0, old + 1), { log, channel });
    if (waiting.length === 0) return;
    timer = setTimeout(() => {
      enqueue(AbortSignal.timeout(TRY_MS)).catch((error: unknown) =>
        log.warn('a message still cannot be sent', { listener: channel.name, ...errorInfo(error) }),
      );
    }, pause);
    timer.unref();
  }

  function enqueue(signal: AbortSignal): Promise<void> {
    const mine = sending.then(() => drain(signal));
    sending = mine.catch(later);
    return mine;
  }

  return {
    put(message, signal) {
      waiting.push({ message, at: now() });
      const tooMany = waiting.splice(0, Math.max(0, waiting.length - MAX_WAITING));
      logDropped('a message was never sent: too many wait', tooMany, { log, channel });
      return enqueue(signal);
    },
  };
}

function logDropped(
  why: string,
  dropped: readonly Waiting[],
  { log, channel, cause }: { log: Log; channel: Sender; cause?: unknown },
): void {
  const error = cause === undefined ? {} : errorInfo(cause);
  for (const { message, at } of dropped)
    log.error(why, { listener: channel.name, title: message.title, at: new Date(at).toISOString(), ...error });
}

/** Removes an item. It may be gone already, because more may have arrived and the oldest ones been dropped. */
function remove(waiting: Waiting[], one: Waiting): void {
  const at = waiting.indexOf(one);
  if (at >= 0) waiting.splice(at, 1);
}

function dated({ message, at }: Waiting, now: number): Message {
  if (now - at < LATE_MS) return message;
  const late = `This message is from ${new Date(at).toISOString()}, and could not be sent before.`;
  return { ...message, facts: [late, ...message.facts] };
}
