import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { RunEvent } from '../report/events.ts';
import { type Message, type MessageContext, messageOf, sampleMessage } from './message.ts';
import type { Notifier } from './notifier.ts';

/** One way to send messages to people. */
export interface Channel {
  readonly name: string;
  /**
   * Sends one message. Resolves to one line about the result (`hooks.slack.com accepted the message`) when the other
   * side has it. The message is redacted.
   *
   * @throws NOTIFY_FAILED
   */
  send(message: Message, signal: AbortSignal): Promise<string>;
}

/** Messages that wait for a channel to work again. When there are more, the oldest one is dropped. */
const MAX_WAITING = 20;
/** When a message that could not be sent is tried again, milliseconds after the last try. */
const AGAIN_MS = [60_000, 5 * 60_000, 15 * 60_000, 30 * 60_000, 60 * 60_000] as const;

/** A message that is older is news to nobody, milliseconds. */
const GIVE_UP_MS = 6 * 60 * 60_000;

/** Options of {@link createNotifier}. */
interface NotifierOptions {
  project: string;
  log: Log;
  zone?: string | undefined;
  now?: () => number;
  /** reads when a drill last restored each source, ISO times by its name */
  proven?: () => Promise<MessageContext['proven']>;
  againMs?: readonly number[];
}

/**
 * Sends the events that concern people through a channel, as messages. Messages arrive in their order. One that cannot
 * be sent waits in memory, and is tried again for some hours while the process lives.
 */
export function createNotifier(channel: Channel, options: NotifierOptions): Notifier {
  const { project, log, zone, now = Date.now, proven = async () => ({}), againMs = AGAIN_MS } = options;
  const waiting: { message: Message; at: number }[] = [];
  let sending: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  let failures = 0;

  /** Sends what waits, oldest first, until one fails. */
  async function drain(signal: AbortSignal): Promise<void> {
    for (let first = waiting[0]; first !== undefined; first = waiting[0]) {
      await channel.send(dated(first, now()), signal);
      // More messages may have arrived, and the oldest ones may have been dropped.
      const at = waiting.indexOf(first);
      if (at >= 0) waiting.splice(at, 1);
    }
    failures = 0;
  }

  function later(): void {
    clearTimeout(timer);
    const pause = againMs[Math.min(failures, againMs.length - 1)] ?? 0;
    failures++;
    const old = waiting.findLastIndex(({ at }) => now() - at >= GIVE_UP_MS);
    waiting.splice(0, old + 1);
    if (waiting.length === 0) return;
    timer = setTimeout(() => {
      enqueue(AbortSignal.timeout(30_000)).catch((error: unknown) =>
        log.warn('a message still cannot be sent', {
          listener: channel.name,
          waiting: waiting.length,
          ...errorInfo(error),
        }),
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
    name: channel.name,
    async handle(event: RunEvent, signal) {
      const message = messageOf(event, { now: new Date(now()), zone, proven: await proven().catch(() => ({})) });
      if (!message) return;
      waiting.push({ message, at: now() });
      if (waiting.length > MAX_WAITING) waiting.splice(0, waiting.length - MAX_WAITING);
      await enqueue(signal);
    },
    test: (signal) => channel.send(sampleMessage(project, new Date(now())), signal),
  };
}

/** After this time, a message says when it is from. Milliseconds. */
const LATE_MS = 5 * 60_000;

function dated({ message, at }: { message: Message; at: number }, now: number): Message {
  if (now - at < LATE_MS) return message;
  const late = `This message is from ${new Date(at).toISOString()}, and could not be sent before.`;
  return { ...message, facts: [late, ...message.facts] };
}
