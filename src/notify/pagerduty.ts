import { registerSecret } from '../base/redact.ts';
import { plural } from '../report/format.ts';
import type { Channel } from './channel.ts';
import { characters, cut, fitBody } from './fit.ts';
import { createPost, type Post } from './http.ts';
import type { Incident, Message } from './message.ts';

/** Characters of a summary: https://developer.pagerduty.com/docs/send-alert-event */
const MAX_SUMMARY = 1_024;
const MAX_DETAILS = 20_000;

/** Options of {@link createPagerDuty}. `base`: the address of the Events API, without a trailing slash. */
interface PagerDutyOptions {
  base: string;
  routingKey: string;
  post?: Post;
}

/**
 * Opens and resolves incidents at PagerDuty (Events API v2). The dedup key is the same for each event of an incident,
 * so trouble that continues adds to the open incident. A good run resolves the incident of backups, whether or not
 * there is one.
 */
export function createPagerDuty({ base, routingKey, post = createPost() }: PagerDutyOptions): Channel {
  registerSecret(routingKey);
  const url = new URL(`${base}/v2/enqueue`);
  const enqueue = (event: object, signal: AbortSignal) =>
    post({
      url,
      body: JSON.stringify({ routing_key: routingKey, client: 'Lifeboat', ...event }),
      contentType: 'application/json',
      signal,
    });
  return {
    name: 'pagerduty',
    async send(message, signal) {
      for (const incident of message.incidents) await enqueue(eventOf(message, incident), signal);
      if (message.event.type !== 'test') return `${url.host} accepted ${plural(message.incidents.length, 'event')}`;
      const sample = { key: 'test', over: false, summary: message.title };
      await enqueue(eventOf(message, sample), signal);
      await enqueue(eventOf(message, { ...sample, over: true }), signal);
      return `${url.host} opened and resolved an incident of severity info`;
    },
  };
}

function eventOf(message: Message, { key, over, summary }: Incident): object {
  const dedup_key = `lifeboat/${message.project}/${key}`;
  if (over) return { event_action: 'resolve', dedup_key };
  const severity = { bad: 'critical', warning: 'error', good: 'info', info: 'info' }[message.level];
  return {
    event_action: 'trigger',
    dedup_key,
    payload: {
      summary: cut(summary, MAX_SUMMARY),
      source: message.project,
      severity,
      timestamp: message.at,
      component: 'backup',
      class: key,
      custom_details: { message: fitBody(message, characters(MAX_DETAILS)).join('\n') },
    },
  };
}
