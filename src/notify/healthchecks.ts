import type { Log } from '../base/log.ts';
import { redact } from '../base/redact.ts';
import { type Alarm, alarmText } from '../report/alarm.ts';
import { drillText } from '../report/drill-text.ts';
import { overall, type RunEvent, type RunStart } from '../report/events.ts';
import { oneLine } from '../report/format.ts';
import { restoreHeadline, restoreLines } from '../report/restore-text.ts';
import { headline, renderReport } from '../report/text.ts';
import { createPost, type Post } from './http.ts';
import { messageOf } from './message.ts';
import type { Notifier } from './notifier.ts';
import { createOutbox } from './outbox.ts';
import { openOutboxFiles } from './outbox-files.ts';
import { createPinger, cutText, type Pinger, type PingTarget, pingBody, pingUrl } from './ping.ts';

/** Options of {@link createHealthchecks}. */
interface HealthchecksOptions {
  target: PingTarget;
  project: string;
  zone?: string | undefined;
  /** alarms about WAL, and drills, have a check of their own */
  withoutWal?: boolean;
  withoutDrills?: boolean;
  post?: Post;
  now?: () => number;
  log: Log;
  /** of the state: an alarm that cannot be sent waits there; default: only in memory */
  directory?: string | undefined;
}

/**
 * Creates a notifier that pings a check at the start and end of every run. It ignores LIFEBOAT_NOTIFY, because a
 * dead-man's switch needs every ping. A partly failed run pings `fail`. So does a good run while a source that was not
 * part of it needs attention, because a success would end an alarm whose cause still exists. A failure that will be
 * tried again is a log entry: the last try decides.
 */
export function createHealthchecks(options: HealthchecksOptions): Notifier {
  const {
    target,
    project,
    zone,
    withoutWal = false,
    withoutDrills = false,
    post = createPost(),
    now = Date.now,
    log,
    directory,
  } = options;
  const pinger = createPinger({ target, post, now: options.now });
  const name = 'healthchecks';
  const files = directory === undefined ? undefined : openOutboxFiles(directory, name, now);
  const outbox = createOutbox(
    { name, send: ({ event }, signal) => pingAlarms(pinger, event.type === 'alarms' ? event.alarms : [], signal) },
    { log, now, files },
  );
  // A ping about a run is soon followed by the next one. Nothing follows an alarm.
  const alarmWords = (event: RunEvent) => {
    if (event.type !== 'alarms') return undefined;
    const alarms = event.alarms.filter(({ topic }) => !withoutWal || !isAboutWal(topic));
    return alarms.length === 0
      ? undefined
      : messageOf({ ...event, alarms }, { now: new Date(now()), zone, proven: {} });
  };
  return {
    name,
    resume: (signal) => outbox.resume(signal),
    async keep(event) {
      const message = alarmWords(event);
      if (message) await outbox.keep(message);
    },
    async handle(event, signal) {
      if (event.type === 'run-started') {
        const { rid } = event.run;
        await pinger.ping('start', (limit) => cutText(startText(event.run), limit), { signal, rid });
      } else if (event.type === 'run-finished') {
        const { report } = event;
        const text = `${headline(report)}\n${renderReport(report, { now: new Date(now()), zone, failedFirst: true, again: true })}`;
        const kind = report.retry?.quiet ? 'log' : overall(report) === 'ok' ? 'success' : 'fail';
        const body = (limit: number) => pingBody(text, report.logTail, limit);
        await pinger.ping(kind, body, { signal, rid: report.rid });
      } else if (event.type === 'alarms') {
        const message = alarmWords(event);
        if (message) await outbox.put(message, signal);
      } else if (event.type === 'drill-finished' && !withoutDrills) {
        const kind = event.report.status === 'failed' ? 'fail' : 'log';
        await pinger.ping(kind, (limit) => cutText(redact(drillText(event.report)), limit), { signal });
      } else if (event.type === 'restore-finished') {
        // A restore says nothing about backups, so it is only a log entry.
        const text = redact([restoreHeadline(event.report), ...restoreLines(event.report)].join('\n'));
        await pinger.ping('log', (limit) => cutText(text, limit), { signal });
      }
    },
    async test(signal) {
      const text = `${project}: test message from Lifeboat, no backup was made`;
      const answer = await pinger.ping('log', () => text, { signal });
      const made = answer.status === 201 ? ' and created the check' : '';
      return `${pingUrl(target, 'log').host} accepted a log entry${made}; the check's status is unchanged`;
    },
  };
}

async function pingAlarms(pinger: Pinger, alarms: readonly Alarm[], signal: AbortSignal): Promise<void> {
  const text = alarms.map(alarmText).join('\n');
  // Only a run may end an alarm of the check.
  const kind = alarms.some(({ over }) => !over) ? 'fail' : 'log';
  await pinger.ping(kind, (limit) => cutText(text, limit), { signal });
}

/** Whether an alarm belongs to the check of WAL, if there is one. */
export function isAboutWal(topic: string): boolean {
  return topic === 'wal' || topic === 'wal-gap' || topic === 'wal-behind';
}

function startText(run: RunStart): string {
  return redact(`${oneLine(run.project)}: backup started (${run.trigger}), run ${run.id}`);
}
