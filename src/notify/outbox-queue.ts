import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { endedAlarms } from './ended-alarms.ts';
import type { Message } from './message.ts';
import { MAX_ALL, MAX_WAITING, type OutboxFiles, type Waiting } from './outbox-files.ts';

/** A message that is older is news to nobody, milliseconds. Alarms and their ends stay news. */
const GIVE_UP_MS = 6 * 60 * 60_000;
/** After this time, a message says when it is from. Milliseconds. */
const LATE_MS = 5 * 60_000;

/** A message that waits in this process. */
export interface Entry extends Waiting {
  /** its age when this process got it, milliseconds */
  aged: number;
  /** when this process got it, by the clock that nobody sets, milliseconds */
  since: number;
  /** it may have arrived already */
  tried: boolean;
}

/** Options of {@link OutboxQueue}. */
interface QueueOptions {
  channel: string;
  log: Log;
  /** a clock that nobody sets, milliseconds */
  clock(): number;
  files: OutboxFiles | undefined;
}

/** The messages of one channel that wait in this process, in their order. It drops those that are obsolete. */
export class OutboxQueue {
  private readonly options: QueueOptions;
  private readonly waiting: Entry[] = [];
  /** the message that is being sent, which is never dropped as obsolete */
  inFlight: Entry | undefined;

  constructor(options: QueueOptions) {
    this.options = options;
  }

  get all(): readonly Entry[] {
    return this.waiting;
  }

  push(one: Entry): void {
    this.waiting.push(one);
  }

  /** Inserts a message of another process by its time. */
  insert(one: Entry): void {
    const before = this.waiting.findIndex(({ at }) => at > one.at);
    this.waiting.splice(before < 0 ? this.waiting.length : before, 0, one);
  }

  /**
   * Drops what is obsolete, and what is too much. Never rejects.
   *
   * @param room for so many more messages
   */
  async tidy(room = 0): Promise<void> {
    const { clock } = this.options;
    const dropped: Entry[] = [];
    // At once, because a message of the list may be sent while a file is removed.
    const take = (why: string, one: Entry | undefined) => one && dropped.push(this.take(why, one));
    const isOld = ({ aged, since }: Entry) => aged + clock() - since >= GIVE_UP_MS;
    for (const one of this.idle().filter((each) => !isAlarm(each) && isOld(each))) take('it is too old', one);
    for (const one of endedAlarms(this.idle())) take('its alarm is over', one);
    const news = this.idle().filter((one) => !isAlarm(one));
    for (const one of news.slice(0, Math.max(0, this.waiting.length + room - MAX_WAITING))) take('too many wait', one);
    for (let over = this.waiting.length + room - MAX_ALL; over > 0; over--) {
      // Without its end, an incident stays open.
      const [oldest] = this.idle();
      take('too many wait', this.idle().find(({ message }) => message.level === 'bad') ?? oldest);
    }
    for (const one of dropped) await this.removeFile(one);
  }

  /** Drops the messages from before a time, milliseconds since 1970. Never rejects. */
  async dropBefore(time: number, why: string): Promise<void> {
    const dropped = this.idle().filter(({ at }) => at < time);
    for (const one of dropped) this.take(why, one);
    for (const one of dropped) await this.removeFile(one);
  }

  /** Drops a message. Never rejects. `cause`: why it could not be sent. */
  async drop(why: string, one: Entry, cause?: unknown): Promise<void> {
    await this.removeFile(this.take(why, one, cause));
  }

  /** Removes a message that was sent. Never rejects. */
  async remove(one: Entry): Promise<void> {
    const at = this.waiting.indexOf(one);
    if (at >= 0) this.waiting.splice(at, 1);
    await this.removeFile(one);
  }

  private idle(): Entry[] {
    return this.waiting.filter((one) => one !== this.inFlight);
  }

  private take(why: string, one: Entry, cause?: unknown): Entry {
    const error = cause === undefined ? {} : errorInfo(cause);
    const fields = { listener: this.options.channel, title: one.message.title, at: new Date(one.at).toISOString() };
    this.options.log.error(`a message was never sent: ${why}`, { ...fields, ...error });
    const at = this.waiting.indexOf(one);
    if (at >= 0) this.waiting.splice(at, 1);
    return one;
  }

  private async removeFile({ file }: Entry): Promise<void> {
    const { files, log, channel } = this.options;
    if (file === undefined) return;
    await files
      ?.remove(file)
      .catch((error: unknown) =>
        log.warn('the file of a message cannot be removed', { listener: channel, ...errorInfo(error) }),
      );
  }
}

/** The end of an alarm is as important as its beginning: without it, an incident stays open. */
function isAlarm({ message: { event } }: Waiting): boolean {
  return event.type === 'alarms';
}

/** Returns a message for a channel, which says when it is from if it is late. `now`: milliseconds since 1970 */
export function dated({ message, at }: Waiting, now: number): Message {
  if (now - at < LATE_MS) return message;
  const late = `This message is from ${new Date(at).toISOString()}, and could not be sent before.`;
  return { ...message, facts: [late, ...message.facts] };
}
