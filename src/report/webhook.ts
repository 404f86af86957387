import { redactDeep } from '../base/redact.ts';
import { type Alarm, alarmText } from './alarm.ts';
import { cleanReport } from './clean.ts';
import type { DrillReport } from './drill-report.ts';
import { drillHeadline } from './drill-text.ts';
import type { RestoreReport, RunReport } from './events.ts';
import { newestThatFit } from './format.ts';
import { createPost, type Post } from './http.ts';
import type { Notifier } from './notifier.ts';
import { restoreHeadline, restoreStarted } from './restore-text.ts';
import { headline } from './text.ts';

/** The body of a POST, see docs/notifications.md. Format 1 may gain fields. None is removed or renamed. */
interface WebhookMessage {
  format: 1;
  event: 'run-finished' | 'restore-started' | 'restore-finished' | 'drill-finished' | 'alarm' | 'test';
  /** one line for people */
  text: string;
  /** of a finished run */
  report?: RunReport;
  /** of a finished restore or rollback */
  restore?: RestoreReport;
  drill?: DrillReport;
  alarm?: Alarm;
}

/** Limit for the log tail, in characters. The rest of the report is far smaller. */
const MAX_TAIL = 100_000;
/** Limit for a single text, such as the error of another program, in characters. */
const MAX_TEXT = 2_000;

/** Makes the message about a finished run: redacted, with texts cut to a bounded size. */
export function webhookMessage(report: RunReport): WebhookMessage {
  const clean = cleanReport(report);
  const lines = clean.logTail.map((line) => line.slice(0, MAX_TEXT));
  const logTail = newestThatFit(lines, MAX_TAIL, (line) => line.length);
  const cut = (_key: string, value: unknown) =>
    typeof value === 'string' && value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT - 1)}…` : value;
  const short = JSON.parse(JSON.stringify({ ...clean, logTail }), cut) as RunReport;
  return { format: 1, event: 'run-finished', text: headline(short), report: short };
}

/** Creates a notifier that POSTs each finished run as JSON to a URL of the user. */
export function createWebhook({
  url,
  project,
  post = createPost(),
}: {
  url: URL;
  project: string;
  post?: Post;
}): Notifier {
  const send = (message: WebhookMessage, signal: AbortSignal) =>
    post({ url, body: JSON.stringify(message), contentType: 'application/json', signal });
  return {
    name: 'webhook',
    async handle(event, signal) {
      if (event.type === 'run-finished') await send(webhookMessage(event.report), signal);
      if (event.type === 'alarm') {
        const alarm = redactDeep(event.alarm);
        await send({ format: 1, event: 'alarm', text: alarmText(alarm), alarm }, signal);
      }
      const { type } = event;
      if (type === 'restore-started')
        await send({ format: 1, event: type, text: restoreStarted(event.restore) }, signal);
      if (type === 'restore-finished') {
        const restore = cleanReport(event.report);
        await send({ format: 1, event: type, text: restoreHeadline(restore), restore }, signal);
      }
      if (type === 'drill-finished') {
        const drill = cleanReport(event.report);
        await send({ format: 1, event: type, text: drillHeadline(drill), drill }, signal);
      }
    },
    async test(signal) {
      const text = `${project}: test message from Lifeboat, no backup was made`;
      const answer = await send({ format: 1, event: 'test', text }, signal);
      return `${url.host} answered ${answer.status}`;
    },
  };
}
