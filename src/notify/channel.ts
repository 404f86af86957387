import type { Log } from '../base/log.ts';
import type { RunEvent } from '../report/events.ts';
import { type Message, type MessageContext, messageOf, sampleMessage } from './message.ts';
import type { Notifier } from './notifier.ts';
import { createOutbox, type Outbox } from './outbox.ts';
import { openOutboxFiles } from './outbox-files.ts';
import { openSentLog } from './sent-log.ts';

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

/** Options of {@link createNotifier}. */
interface NotifierOptions {
  project: string;
  log: Log;
  zone?: string | undefined;
  now?: () => number;
  /** a clock that nobody sets, milliseconds */
  clock?: () => number;
  /** reads when a drill last restored each source, ISO times by its name */
  proven?: () => Promise<MessageContext['proven']>;
  /** the pauses before later tries, milliseconds */
  againMs?: readonly number[];
  /** of the state: what cannot be sent waits there; default: only in memory */
  directory?: string | undefined;
}

/** A notifier that sends messages through a channel. */
interface ChannelNotifier extends Notifier, Pick<Outbox, 'supersede'> {
  keep(event: RunEvent): Promise<boolean>;
}

/**
 * Sends the events that concern people through a channel, as messages. Messages arrive in their order. One that cannot
 * be sent is sent later, see {@link createOutbox}.
 */
export function createNotifier(channel: Channel, options: NotifierOptions): ChannelNotifier {
  const { project, log, zone, now = Date.now, clock = () => performance.now(), againMs, directory } = options;
  const { proven = async () => ({}) } = options;
  const parts = { channel: channel.name, log, now };
  const files = directory === undefined ? undefined : openOutboxFiles({ ...parts, directory });
  const sent = openSentLog({ ...parts, directory });
  const outbox = createOutbox(channel, { log, now, clock, againMs, files, sent });
  const wordsOf = async (event: RunEvent) => {
    // Events of progress are many, and no message is about them.
    const known = event.type === 'run-finished' ? await proven().catch(() => ({})) : {};
    return messageOf(event, { now: new Date(now()), zone, proven: known });
  };
  return {
    name: channel.name,
    async handle(event, signal) {
      const message = await wordsOf(event);
      if (message) await outbox.put(message, signal);
    },
    async keep(event) {
      const message = await wordsOf(event);
      if (message) await outbox.keep(message);
      return message !== undefined;
    },
    supersede: (work, signal) => outbox.supersede(work, signal),
    resume: (signal) => outbox.resume(signal),
    test: (signal) => channel.send(sampleMessage(project, new Date(now())), signal),
  };
}
