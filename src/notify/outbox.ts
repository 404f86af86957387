import { randomUUID } from 'node:crypto';
import { waitAtMost } from '../base/abort.ts';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatDuration } from '../report/format.ts';
import { failureOf } from './failure.ts';
import type { Message } from './message.ts';
import type { OutboxFiles } from './outbox-files.ts';
import { dated, type Entry, OutboxQueue } from './outbox-queue.ts';
import type { SentLog } from './sent-log.ts';

/** When messages that could not be sent are tried again, milliseconds after the last try. */
const AGAIN_MS = [60_000, 5 * 60_000, 15 * 60_000, 30 * 60_000, 60 * 60_000] as const;
/** The longest pause that the other side can ask for, milliseconds. */
const MAX_PAUSE_MS = 60 * 60_000;
/** The time limit for a later try, milliseconds. */
const TRY_MS = 30_000;
/** The time between two looks of the daemon for messages that other processes left, milliseconds. */
const LOOK_MS = 60_000;
/** The time that waiting messages have before other work of the channel, milliseconds. */
const FIRST_MS = 8000;
/** The time that a try has to end after its signal aborts, milliseconds. */
const ABORT_MS = 1000;

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
  /** a clock that nobody sets, milliseconds */
  clock(): number;
  againMs?: readonly number[] | undefined;
  /** keeps what waits beyond the end of the process */
  files?: OutboxFiles | undefined;
  sent: SentLog;
}

/** The messages of one channel, sent in their order. */
export interface Outbox {
  /**
   * Stores a message, and sends it after those that wait before it. If that fails, they wait and are tried again for
   * some hours, by the daemon if this process ends.
   *
   * @throws NOTIFY_FAILED
   */
  put(message: Message, signal: AbortSignal): Promise<void>;
  /** Stores a message that there is no time to send. It is tried later. Never rejects. */
  keep(message: Message): Promise<void>;
  /**
   * Does work that makes all earlier messages obsolete. Those that wait are sent before it, if that takes a few
   * seconds. After it, those that are left are dropped.
   *
   * @throws what the work throws; then nothing is dropped
   */
  supersede(work: () => Promise<void>, signal: AbortSignal): Promise<void>;
  /** Takes over the messages that other processes left, now and every minute until the signal aborts. */
  resume(signal: AbortSignal): void;
}

/**
 * Creates the outbox of a channel. Its rules:
 *
 * 1. A message is stored before it waits, and claimed before it is sent, so one process sends it.
 * 2. Messages are sent in the order of their time, whichever process made them.
 * 3. A message that is obsolete is dropped: it is too old, something newer was sent that says the opposite, or its
 *    alarm began and ended while it waited. Alarms are never too old.
 * 4. Each message that is dropped is in the log.
 */
export function createOutbox(channel: Sender, options: OutboxOptions): Outbox {
  return new Waits(channel, options);
}

class Waits implements Outbox {
  private readonly channel: Sender;
  private readonly options: OutboxOptions;
  private readonly queue: OutboxQueue;
  private adding: Promise<void> = Promise.resolve();
  private sending: Promise<void> = Promise.resolve();
  /** ends tries that hold up other work */
  private yielding = new AbortController();
  private timer: NodeJS.Timeout | undefined;
  private failures = 0;
  /** the other side takes no message before, milliseconds since 1970 */
  private notBefore = 0;

  constructor(channel: Sender, options: OutboxOptions) {
    this.channel = channel;
    this.options = options;
    const { log, clock, files } = options;
    this.queue = new OutboxQueue({ channel: channel.name, log, clock, files });
  }

  async put(message: Message, signal: AbortSignal): Promise<void> {
    await this.add(message);
    return this.enqueue(signal);
  }

  async keep(message: Message): Promise<void> {
    await this.add(message);
    this.schedule();
  }

  async supersede(work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { now, sent } = this.options;
    const turn = this.queue.all.length > 0 ? this.enqueue(signal) : this.sending;
    await waitAtMost(FIRST_MS, turn).catch(() => undefined);
    this.yielding.abort();
    this.yielding = new AbortController();
    const at = now();
    const done = waitAtMost(ABORT_MS, this.sending).then(work);
    this.sending = Promise.allSettled([this.sending, done]).then(() => undefined);
    await done;
    await sent.outdate(at);
    await this.queue.dropBefore(at, 'a newer one replaces it');
  }

  resume(signal: AbortSignal): void {
    const lookNow = () =>
      this.look().catch((error: unknown) => this.warn('a message of another process cannot be sent yet', error));
    const timer = setInterval(lookNow, LOOK_MS).unref();
    signal.addEventListener('abort', () => clearInterval(timer), { once: true });
    void lookNow();
  }

  private async look(): Promise<void> {
    const { files, now, clock } = this.options;
    const own = this.queue.all.flatMap(({ file }) => (file === undefined ? [] : [file]));
    const found = (await files?.adopt(new Set(own))) ?? [];
    // Nobody knows whether their process has tried to send them.
    for (const one of found)
      this.queue.insert({ ...one, aged: Math.max(0, now() - one.at), since: clock(), tried: true });
    if (found.length === 0) return;
    await this.queue.tidy();
    await this.enqueue(AbortSignal.timeout(TRY_MS));
  }

  /** Stored before it waits: a process that dies while it sends loses nothing. One after the other, for their order. */
  private add(message: Message): Promise<void> {
    const { files, now, clock } = this.options;
    const id = randomUUID().slice(0, 8);
    const one: Entry = { id, message, at: now(), aged: 0, since: clock(), tried: false };
    const mine = this.adding.then(async () => {
      await this.queue.tidy(1);
      one.file = await files?.save(one).catch((error: unknown) => {
        this.warn('a message waits only in memory', error);
        return undefined;
      });
      this.queue.push(one);
      await this.queue.tidy();
    });
    this.adding = mine.catch(() => undefined);
    return mine;
  }

  private enqueue(signal: AbortSignal): Promise<void> {
    const mine = this.sending.then(() => this.drain(AbortSignal.any([signal, this.yielding.signal])));
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
    const left = new Map<Entry, unknown>();
    const next = () => this.queue.all.find((one) => !left.has(one));
    for (let one = next(); one !== undefined; one = next()) {
      try {
        await this.send(one, signal);
      } catch (error) {
        if (failureOf(error).retryAfterMs) throw error;
        const current = one;
        const newest = this.queue.all.findLast((each) => each !== current && !left.has(each));
        if (newest === undefined) throw error;
        // A message that fails alone must not hold up the others. One that met the end of an outage is sent now, unless
        // the other one makes it obsolete.
        await this.send(newest, signal);
        const cause: unknown = await this.send(one, signal).catch((again: unknown) => again);
        if (signal.aborted && cause) throw cause;
        if (cause && failureOf(cause).isRefused) await this.queue.drop('it was refused', one, cause);
        else if (cause) left.set(one, cause);
      }
    }
    for (const cause of left.values()) throw cause;
    this.failures = 0;
  }

  private async send(one: Entry, signal: AbortSignal): Promise<void> {
    const { now, sent } = this.options;
    if (!this.queue.all.includes(one)) return;
    this.queue.inFlight = one;
    try {
      if (!(await this.claim(one))) return await this.queue.remove(one);
      const message = await sent.freshPartOf(one);
      if (!message) return await this.queue.drop('a newer one says the opposite', one);
      one.tried = true;
      await this.channel.send(dated({ ...one, message }, now()), signal);
      await sent.note(one);
      await this.queue.remove(one);
    } catch (error) {
      const { retryAfterMs } = failureOf(error);
      if (retryAfterMs) this.notBefore = now() + Math.min(retryAfterMs, MAX_PAUSE_MS);
      throw error;
    } finally {
      this.queue.inFlight = undefined;
    }
  }

  /** Returns whether this process sends a message. */
  private async claim(one: Entry): Promise<boolean> {
    const { files, sent, log } = this.options;
    if (await sent.has(one)) return false;
    if (!files || one.file === undefined) return true;
    const claimed = await files.claim(one.file).catch((error: unknown) => {
      this.warn('a message is sent although it cannot be claimed', error);
      return undefined;
    });
    if (typeof claimed === 'object') one.file = claimed.file;
    if (typeof claimed !== 'string') return true;
    const fields = { listener: this.channel.name, title: one.message.title, file: one.file };
    one.file = undefined;
    const isTaken = claimed === 'taken' || (await sent.has(one));
    if (isTaken) log.info('another process sends a message', fields);
    else log.warn('the file of a message is gone, so it is sent from memory', fields);
    return !isTaken;
  }

  private async later(): Promise<void> {
    this.failures++;
    await this.queue.tidy();
    this.schedule();
  }

  private schedule(): void {
    const { againMs = AGAIN_MS, now } = this.options;
    clearTimeout(this.timer);
    if (this.queue.all.length === 0) return;
    const usual = againMs[Math.min(Math.max(0, this.failures - 1), againMs.length - 1)] ?? 0;
    const asked = Math.min(this.notBefore - now(), MAX_PAUSE_MS);
    const again = () =>
      this.enqueue(AbortSignal.timeout(TRY_MS)).catch((error: unknown) =>
        this.warn('a message still cannot be sent', error),
      );
    this.timer = setTimeout(again, Math.max(usual, asked)).unref();
  }

  private warn(what: string, error: unknown): void {
    this.options.log.warn(what, { listener: this.channel.name, ...errorInfo(error) });
  }
}
