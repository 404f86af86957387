import { createHmac } from 'node:crypto';
import { registerSecret } from '../base/redact.ts';
import type { Alarm } from '../report/alarm.ts';
import type { DrillReport } from '../report/drill-report.ts';
import type { RestoreReport, RunReport } from '../report/events.ts';
import { newestThatFit } from '../report/format.ts';
import type { Letter } from '../report/letter.ts';
import type { Channel } from './channel.ts';
import { cut } from './fit.ts';
import { createPost, type Post } from './http.ts';
import type { Level, Message } from './message.ts';

/**
 * The body of a POST, see docs/notifications.md. docs/webhook.schema.json is its JSON Schema. Format 1 may gain fields.
 * None is removed or renamed.
 */
export interface WebhookMessage {
  format: 1;
  event: 'run-finished' | 'restore-started' | 'restore-finished' | 'drill-finished' | 'alarm' | 'letter' | 'test';
  project: string;
  /** ISO time */
  at: string;
  level: Level;
  /** one line for people: what happened */
  text: string;
  /** the details, what is still safe, and what to do next, in lines for people */
  facts: string[];
  safe: string[];
  next: string[];
  /** of a finished run */
  report?: RunReport;
  /** of a finished restore or rollback */
  restore?: RestoreReport;
  drill?: DrillReport;
  /** the first of the alarms that began or ended */
  alarm?: Alarm;
  alarms?: Alarm[];
  letter?: Letter;
}

/** Limit for the log tail, in characters. The rest of the report is far smaller. */
const MAX_TAIL = 100_000;
/** Limit for a single text, such as the error of another program, in characters. */
const MAX_TEXT = 2_000;
/** Alarms in one message. */
const MAX_ALARMS = 100;

/** Makes the body for a message, with texts cut to a bounded size. */
export function webhookMessage(message: Message): WebhookMessage {
  const { event, project, at, level, title, facts, safe, next } = message;
  const type = event.type === 'alarms' ? 'alarm' : event.type;
  const base = { format: 1, event: type, project, at, level, text: title, facts, safe, next } as WebhookMessage;
  return shortened({ ...base, ...contentOf(event) });
}

function contentOf(event: Message['event']): Partial<WebhookMessage> {
  switch (event.type) {
    case 'run-finished': {
      const lines = event.report.logTail.map((line) => line.slice(0, MAX_TEXT));
      const logTail = newestThatFit(lines, MAX_TAIL, (line) => line.length);
      return { report: { ...event.report, logTail } };
    }
    case 'restore-finished':
      return { restore: event.report };
    case 'drill-finished':
      return { drill: event.report };
    case 'alarms': {
      const [first] = event.alarms;
      return { ...(first ? { alarm: first } : {}), alarms: event.alarms.slice(0, MAX_ALARMS) };
    }
    case 'letter':
      return { letter: event.letter };
    default:
      return {};
  }
}

function shortened(message: WebhookMessage): WebhookMessage {
  const short = (_key: string, value: unknown) => (typeof value === 'string' ? cut(value, MAX_TEXT) : value);
  return JSON.parse(JSON.stringify(message), short) as WebhookMessage;
}

/** Options of {@link createWebhook}. `secret`: signs each request. */
interface WebhookOptions {
  url: URL;
  secret?: string | undefined;
  post?: Post;
  now?: () => number;
}

/** Sends messages as JSON to a URL of the user. */
export function createWebhook({ url, secret, post = createPost(), now = Date.now }: WebhookOptions): Channel {
  if (secret !== undefined) registerSecret(secret);
  return {
    name: 'webhook',
    async send(message, signal) {
      const body = JSON.stringify(webhookMessage(message));
      const headers = secret === undefined ? {} : { 'lifeboat-signature': signature(secret, body, now()) };
      const answer = await post({ url, body, contentType: 'application/json', headers, signal });
      return `${url.host} answered ${answer.status}`;
    },
  };
}

/**
 * Signs a body: `t=<seconds since 1970>,v1=<hex HMAC-SHA-256 of "<t>.<body>">`. The time lets the receiver refuse an
 * old request that somebody sends again.
 */
export function signature(secret: string, body: string, now: number): string {
  const seconds = Math.floor(now / 1_000);
  return `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')}`;
}
