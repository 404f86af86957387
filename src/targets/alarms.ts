import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Alarm, AlarmTopic } from '../report/alarm.ts';
import type { Dispatcher } from '../report/dispatch.ts';
import { readJson, writeJson } from '../run/state-files.ts';

/** Alarms that begin or end within this time are one message, milliseconds. */
const GATHER_MS = 10_000;
/** The least time between two messages, milliseconds. */
const BETWEEN_MS = 60_000;

/** Topics without an end: a person looks at what happened. */
const WITHOUT_END: ReadonlySet<AlarmTopic> = new Set(['wal-gap', 'wal-behind']);

/** The reason for an alarm. */
export type NewAlarm = Omit<Alarm, 'project' | 'at' | 'over'>;

/** The alarms of the daemon. Each is sent once when it begins, and once when it ends. */
export interface Alarms {
  /** Begins an alarm. Does nothing while it is open. Returns at once, and never throws. */
  raise(alarm: NewAlarm): void;
  /** Ends an alarm. Does nothing unless it is open. Returns at once, and never throws. */
  end(topic: AlarmTopic, source: string): void;
  /** Ends the alarms about sources that are not in `sources`. */
  endOthers(sources: readonly string[]): void;
  /** Sends what waits. Never rejects. */
  flush(): Promise<void>;
}

/** Options of {@link createAlarms}; times in milliseconds. */
interface AlarmOptions {
  project: string;
  /** of the state */
  directory: string;
  dispatcher: Pick<Dispatcher, 'emit' | 'flush'>;
  log: Log;
  now(): Date;
  gatherMs?: number;
  betweenMs?: number;
}

/** Why an alarm about a source that is not in the plan ends. The next run reports the source as vanished. */
const GONE = 'no container asks for its backup any more';

/** Of topics without an end, each message is about another event. */
const keyOf = ({ topic, source, error }: Pick<Alarm, 'topic' | 'source'> & Partial<Pick<Alarm, 'error'>>) =>
  JSON.stringify(WITHOUT_END.has(topic) ? [topic, source, error?.message] : [topic, source]);

/** Creates the alarms of the daemon, with those that an earlier one left open. */
export function createAlarms(options: AlarmOptions): Alarms {
  return new OpenAlarms(options);
}

/**
 * The open alarms are in a file, so the end of an alarm is noticed by the next agent too, and an alarm that continues
 * is not sent again. The file is written after the message was sent: if the agent dies in between, the next one sends
 * it again.
 */
class OpenAlarms implements Alarms {
  private readonly options: Required<AlarmOptions>;
  private readonly file: string;
  private readonly open = new Map<string, Alarm>();
  private readonly waiting = new Map<string, Alarm>();
  private timer: NodeJS.Timeout | undefined;
  private sentAt = Number.NEGATIVE_INFINITY;
  /** the steps follow each other, and the reading of the file */
  private work: Promise<void>;

  constructor(options: AlarmOptions) {
    this.options = { gatherMs: GATHER_MS, betweenMs: BETWEEN_MS, ...options };
    this.file = path.join(options.directory, 'alarms.json');
    this.work = this.read();
  }

  raise(alarm: NewAlarm): void {
    void this.enqueue(() => {
      const key = keyOf(alarm);
      if (this.open.has(key)) return;
      const whole: Alarm = { ...alarm, project: this.options.project, at: this.options.now().toISOString() };
      // An end that was not sent yet, and a new beginning: the trouble goes on.
      const ended = this.waiting.get(key)?.over === true && this.waiting.delete(key);
      if (!WITHOUT_END.has(alarm.topic)) this.open.set(key, whole);
      if (!ended) this.wait(key, whole);
    });
  }

  end(topic: AlarmTopic, source: string): void {
    void this.enqueue(() => this.endOne(keyOf({ topic, source })));
  }

  endOthers(sources: readonly string[]): void {
    void this.enqueue(() => {
      for (const [key, { source }] of [...this.open]) if (!sources.includes(source)) this.endOne(key, GONE);
    });
  }

  flush(): Promise<void> {
    return this.enqueue(() => this.send());
  }

  private async read(): Promise<void> {
    try {
      for (const alarm of (await readJson<Alarm[]>(this.file)) ?? []) this.open.set(keyOf(alarm), alarm);
    } catch (error) {
      this.options.log.warn('the open alarms cannot be read', { ...errorInfo(error) });
    }
  }

  private enqueue(step: () => void | Promise<void>): Promise<void> {
    const { log } = this.options;
    this.work = this.work.then(step).catch((error: unknown) => log.error('an alarm failed', { ...errorInfo(error) }));
    return this.work;
  }

  private endOne(key: string, why?: string): void {
    const alarm = this.open.get(key);
    if (!alarm) return;
    this.open.delete(key);
    // Trouble that was over before anybody heard of it is no news.
    if (this.waiting.delete(key)) return;
    const error = why === undefined ? alarm.error : { ...alarm.error, message: why };
    this.wait(key, { ...alarm, error, at: this.options.now().toISOString(), since: alarm.at, over: true });
  }

  private wait(key: string, alarm: Alarm): void {
    const { gatherMs, betweenMs } = this.options;
    this.waiting.set(key, alarm);
    const pause = Math.max(gatherMs, this.sentAt + betweenMs - performance.now());
    this.timer ??= setTimeout(() => void this.flush(), pause);
  }

  private async send(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.waiting.size === 0) return;
    const { dispatcher, log } = this.options;
    const [alarms, open] = [[...this.waiting.values()], [...this.open.values()]];
    this.waiting.clear();
    this.sentAt = performance.now();
    for (const { topic, source, error, over } of alarms)
      log[over ? 'info' : 'error'](over ? 'an alarm is over' : 'alarm', { topic, source, ...error });
    dispatcher.emit({ type: 'alarms', alarms, open });
    await dispatcher.flush();
    await writeJson(this.file, open).catch((error: unknown) =>
      log.warn('the open alarms cannot be saved', { ...errorInfo(error) }),
    );
  }
}
