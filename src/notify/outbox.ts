import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatDuration } from '../report/format.ts';
import { failureOf } from './failure.ts';
import type { Message } from './message.ts';
import { MAX_WAITING, type OutboxFiles, type Waiting } from './outbox-files.ts';

/** When messages that could not be sent are tried again, milliseconds after the last try. */
const AGAIN_MS = [60_000, 5 * 60_000, 15 * 60_000, 30 * 60_000, 60 * 60_000] as const;
/** The longest pause that the other side can ask for, milliseconds. */
const MAX_PAUSE_MS = 60 * 60_000;
/** A message that is older is news to nobody, milliseconds. Alarms that began stay news. */
const GIVE_UP_MS = 6 * 60 * 60_000;
/** After this time, a message says when it is from. Milliseconds. */
const LATE_MS = 5 * 60_000;
/** The time limit for a later try, milliseconds. */
const TRY_MS = 30_000;
/** How often the daemon looks for messages that other processes left, milliseconds. */
const LOOK_MS = 60_000;

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
  /** keeps what waits beyond the end of the process */
  files?: OutboxFiles | undefined;
}

/** The messages of one channel, sent in their order. */
interface Outbox {
  /**
   * Sends a message, and those that wait before it. If that fails, they wait and are tried again for some hours, by the
   * daemon if this process ends.
   *
   * @throws NOTIFY_FAILED
   */
  put(message: Message, signal: AbortSignal): Promise<void>;
  /** Stores a message that there is no time to send. Never rejects. */
  keep(message: Message): Promise<void>;
  /** Takes over the messages that other processes left, now and every minute until the signal aborts. */
  resume(signal: AbortSignal): void;
}

/** Creates the outbox of a channel. */
export function createOutbox(channel: Sender, options: OutboxOptions): Outbox {
  return new Waits(channel, options);
}

class Waits implements Outbox {
  private readonly channel: Sender;
  private readonly options: OutboxOptions;
  private readonly waiting: Waiting[] = [];
  private sending: Promise<void> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  private failures = 0;
  /** the other side takes no message before, milliseconds since 1970 */
  private notBefore = 0;

  constructor(channel: Sender, options: OutboxOptions) {
    this.channel = channel;
    this.options = options;
  }

  async put(message: Message, signal: AbortSignal): Promise<void> {
    await this.add(message);
    return this.enqueue(signal);
  }

  async keep(message: Message): Promise<void> {
    await this.add(message);
  }

  resume(signal: AbortSignal): void {
    const { files, log } = this.options;
    const look = async () => {
      const found = (await files?.adopt()) ?? [];
      if (found.length === 0) return;
      this.waiting.push(...found);
      this.waiting.sort((a, b) => a.at - b.at);
      await this.limit();
      await this.enqueue(AbortSignal.timeout(TRY_MS));
    };
    const lookNow = () =>
      look().catch((error: unknown) =>
        log.warn('a message of another process cannot be sent yet', {
          listener: this.channel.name,
          ...errorInfo(error),
        }),
      );
    const timer = setInterval(lookNow, LOOK_MS).unref();
    signal.addEventListener('abort', () => clearInterval(timer), { once: true });
    void lookNow();
  }

  /** Stored before it is sent: a process that dies meanwhile loses nothing. */
  private async add(message: Message): Promise<void> {
    const one: Waiting = { message, at: this.options.now() };
    this.waiting.push(one);
    one.file = await this.options.files?.save(one);
    await this.limit();
  }

  private async limit(): Promise<void> {
    while (this.waiting.length > MAX_WAITING) {
      const one = this.waiting.find((each) => !isAlarm(each)) ?? this.waiting[0];
      if (one) await this.drop('a message was never sent: too many wait', one);
    }
  }

  private enqueue(signal: AbortSignal): Promise<void> {
    const mine = this.sending.then(() => this.drain(signal));
    this.sending = mine.catch(() => this.later());
    return mine;
  }

  /** Sends what waits, oldest first, until the channel fails. */
  private async drain(signal: AbortSignal): Promise<void> {
    const pause = this.notBefore - this.options.now();
    // The clock of the host may have been set back.
    if (pause > 0 && pause <= MAX_PAUSE_MS) {
      throw new LifeboatError('NOTIFY_FAILED', `${this.channel.name} takes no message for ${formatDuration(pause)}`);
    }
    const left = new Map<Waiting, unknown>();
    const next = () => this.waiting.find((one) => !left.has(one));
    for (let one = next(); one !== undefined; one = next()) {
      try {
        await this.send(one, signal);
      } catch (error) {
        if (failureOf(error).retryAfterMs !== undefined) throw error;
        const newest = this.waiting.findLast((each) => each !== one && !left.has(each));
        if (newest === undefined) throw error;
        // A message that fails alone must not hold up the others. One that met the end of an outage is sent now.
        await this.send(newest, signal);
        const cause: unknown = await this.send(one, signal).catch((again: unknown) => again);
        if (signal.aborted && cause) throw cause;
        if (cause && failureOf(cause).isRefused) await this.drop('a message was refused', one, cause);
        else if (cause) left.set(one, cause);
      }
    }
    for (const cause of left.values()) throw cause;
    this.failures = 0;
  }

  private async send(one: Waiting, signal: AbortSignal): Promise<void> {
    const { files, now } = this.options;
    // The daemon may have taken it over.
    if (one.file === undefined || (await files?.has(one.file))) {
      try {
        await this.channel.send(dated(one, now()), signal);
      } catch (error) {
        const { retryAfterMs } = failureOf(error);
        if (retryAfterMs !== undefined) this.notBefore = now() + Math.min(retryAfterMs, MAX_PAUSE_MS);
        throw error;
      }
    }
    await this.remove(one);
  }

  private async later(): Promise<void> {
    const { againMs = AGAIN_MS, now, log } = this.options;
    clearTimeout(this.timer);
    const usual = againMs[Math.min(this.failures, againMs.length - 1)] ?? 0;
    this.failures++;
    const old = this.waiting.filter((one) => now() - one.at >= GIVE_UP_MS && !isAlarm(one));
    for (const one of old) await this.drop('a message was never sent: it is too old', one);
    if (this.waiting.length === 0) return;
    const asked = Math.min(this.notBefore - now(), MAX_PAUSE_MS);
    this.timer = setTimeout(
      () => {
        this.enqueue(AbortSignal.timeout(TRY_MS)).catch((error: unknown) =>
          log.warn('a message still cannot be sent', { listener: this.channel.name, ...errorInfo(error) }),
        );
      },
      Math.max(usual, asked),
    );
    this.timer.unref();
  }

  private async drop(why: string, one: Waiting, cause?: unknown): Promise<void> {
    const error = cause === undefined ? {} : errorInfo(cause);
    const at = new Date(one.at).toISOString();
    this.options.log.error(why, { listener: this.channel.name, title: one.message.title, at, ...error });
    await this.remove(one);
  }

  /** Removes a message. It may be gone already, because more may have arrived and the oldest ones been dropped. */
  private async remove(one: Waiting): Promise<void> {
    const at = this.waiting.indexOf(one);
    if (at >= 0) this.waiting.splice(at, 1);
    if (one.file !== undefined) await this.options.files?.remove(one.file).catch(() => undefined);
  }
}

/** An alarm that began is open until its end is sent, which comes after it. */
function isAlarm({ message: { event, level } }: Waiting): boolean {
  return event.type === 'alarms' && level === 'bad';
}

function dated({ message, at }: Waiting, now: number): Message {
  if (now - at < LATE_MS) return message;
  const late = `This message is from ${new Date(at).toISOString()}, and could not be sent before.`;
  return { ...message, facts: [late, ...message.facts] };
}
