import { silentLog } from '../../src/base/log.ts';
import { type Channel, createNotifier } from '../../src/notify/channel.ts';
import type { Message } from '../../src/notify/message.ts';
import { messageOf } from '../../src/notify/message.ts';
import type { Notifier } from '../../src/notify/notifier.ts';
import type { RunEvent, RunReport } from '../../src/report/events.ts';
import { NOW } from '../report/fixtures.ts';

/** Makes a notifier of the project `shop` that sends through a channel. */
export function notifierOf(channel: Channel, now = () => NOW.getTime()): Notifier {
  return createNotifier(channel, { project: 'shop', log: silentLog, zone: 'UTC', now });
}

/** Words an event at 03:00:41 UTC, right after the runs of the fixtures. */
export function wordsOf(event: RunEvent): Message {
  const message = messageOf(event, { now: NOW, zone: 'UTC', proven: {} });
  if (!message) throw new Error(`no person hears of ${event.type}`);
  return message;
}

/** Words a finished run. */
export const runWords = (report: RunReport) => wordsOf({ type: 'run-finished', report });
