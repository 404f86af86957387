import type { Log } from '../base/log.ts';
import { redact } from '../base/redact.ts';
import { alarmText } from '../report/alarm.ts';
import { drillText } from '../report/drill-text.ts';
import { overall, type RunEvent, type RunStart } from '../report/events.ts';
import { oneLine } from '../report/format.ts';
import { restoreHeadline, restoreLines } from '../report/restore-text.ts';
import { headline, renderReport } from '../report/text.ts';
import { type Channel, createNotifier } from './channel.ts';
import { createPost, type Post } from './http.ts';
import type { Notifier } from './notifier.ts';
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
  } = options;
  const pinger = createPinger({ target, post, now: options.now });
  // A ping about a run is soon followed by the next one. Nothing follows an alarm.
  const waiting = createNotifier(alarmChannel(pinger), options);
  const alarmsOf = (event: Extract<RunEvent, { type: 'alarms' }>) => ({
    ...event,
    alarms: event.alarms.filter(({ topic }) => !withoutWal || !isAboutWal(topic)),
  });
  return {
    name: 'healthchecks',
    resume: (signal) => waiting.resume?.(signal),
    async keep(event) {
      return event.type === 'alarms' && alarmsOf(event).alarms.length > 0 && waiting.keep(alarmsOf(event));
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
        const ping = async () => void (await pinger.ping(kind, body, { signal, rid: report.rid }));
        // The run decides the status of the check. An earlier alarm that arrives after a success would take it down.
        await (kind === 'success' ? waiting.supersede(ping, signal) : ping());
      } else if (event.type === 'alarms') {
        if (alarmsOf(event).alarms.length > 0) await waiting.handle(alarmsOf(event), signal);
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

/** Pings a check about alarms. */
function alarmChannel(pinger: Pinger): Channel {
  return {
    name: 'healthchecks',
    async send({ event }, signal) {
      const alarms = event.type === 'alarms' ? event.alarms : [];
      const text = alarms.map(alarmText).join('\n');
      // Only a run may end an alarm of the check.
      const kind = alarms.some(({ over }) => !over) ? 'fail' : 'log';
      await pinger.ping(kind, (limit) => cutText(text, limit), { signal, yields: true });
      return 'pinged';
    },
  };
}

/** Returns whether an alarm belongs to the check of WAL, if there is one. */
export function isAboutWal(topic: string): boolean {
  return topic === 'wal' || topic === 'wal-gap' || topic === 'wal-behind';
}

function startText(run: RunStart): string {
  return redact(`${oneLine(run.project)}: backup started (${run.trigger}), run ${run.id}`);
}
