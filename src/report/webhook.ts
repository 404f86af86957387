import { cleanReport } from './clean.ts';
import type { RestoreReport, RunReport } from './events.ts';
import { newestThatFit } from './format.ts';
import { createPost, type Post } from './http.ts';
import type { Notifier } from './notifier.ts';
import { restoreHeadline, restoreStarted } from './restore-text.ts';
import { headline } from './text.ts';

/** What is posted: see docs/notifications.md. New fields may be added to format 1; none is removed or renamed. */
interface WebhookMessage {
  format: 1;
  event: 'run-finished' | 'restore-started' | 'restore-finished' | 'test';
  /** one line for people */
  text: string;
  /** of a run that ended */
  report?: RunReport;
  /** of a restore or rollback that ended */
  restore?: RestoreReport;
}

/** Room for the log tail beside the rest of the report, in characters; the rest is far smaller. */
const MAX_TAIL = 100_000;
/** A single text (an error of a stranger's tool) is cut to this many characters. */
const MAX_TEXT = 2_000;

/** The message for a finished run: redacted, its texts cut to a bounded size. */
export function webhookMessage(report: RunReport): WebhookMessage {
  const clean = cleanReport(report);
  const lines = clean.logTail.map((line) => line.slice(0, MAX_TEXT));
  const logTail = newestThatFit(lines, MAX_TAIL, (line) => line.length);
  const cut = (_key: string, value: unknown) =>
    typeof value === 'string' && value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT - 1)}…` : value;
  const short = JSON.parse(JSON.stringify({ ...clean, logTail }), cut) as RunReport;
  return { format: 1, event: 'run-finished', text: headline(short), report: short };
}

/** POSTs each finished run as JSON to a URL of the user's own. */
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
      const { type } = event;
      if (type === 'restore-started')
        await send({ format: 1, event: type, text: restoreStarted(event.restore) }, signal);
      if (type === 'restore-finished') {
        const restore = cleanReport(event.report);
        await send({ format: 1, event: type, text: restoreHeadline(restore), restore }, signal);
      }
    },
    async test(signal) {
      const text = `${project}: test message from Lifeboat, no backup was made`;
      const answer = await send({ format: 1, event: 'test', text }, signal);
      return `${url.host} answered ${answer.status}`;
    },
  };
}
