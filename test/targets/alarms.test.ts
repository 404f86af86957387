import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { RunEvent } from '../../src/report/events.ts';
import { createAlarms, type NewAlarm } from '../../src/targets/alarms.ts';

let directory: string;
let sent: Extract<RunEvent, { type: 'alarms' }>[];
let clock: Date;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'alarms-'));
  sent = [];
  clock = new Date('2026-11-20T03:00:00Z');
});
afterEach(() => rm(directory, { recursive: true }));

/** Opens the alarms of an agent, as after a restart. They are sent only by `flush`, unless `gatherMs` is given. */
function open({
  gatherMs = 1_000_000,
  betweenMs = 0,
  flush = async () => {},
}: {
  gatherMs?: number;
  betweenMs?: number;
  flush?: () => Promise<void>;
} = {}) {
  const dispatcher = { emit: (event: RunEvent) => void (event.type === 'alarms' && sent.push(event)), flush };
  const deps = { project: 'shop', directory, dispatcher, log: silentLog, now: () => clock };
  return createAlarms({ ...deps, gatherMs, betweenMs });
}

const missed = (source: string, topic: NewAlarm['topic'] = 'rpo'): NewAlarm => ({
  ...{ topic, source },
  error: { code: 'RPO_MISSED', message: `${source} is too old` },
});
const told = () => sent.map(({ alarms }) => alarms.map(({ source, over = false }) => [source, over]));

test('an alarm is sent once while it is open, and its end once, also by the next agent', async () => {
  const first = open();
  first.raise(missed('db.postgres'));
  await first.flush();
  first.raise(missed('db.postgres'));
  await first.flush();
  expect(told()).toEqual([[['db.postgres', false]]]);
  const second = open();
  second.raise(missed('db.postgres'));
  await second.flush();
  expect(told()).toHaveLength(1);
  clock = new Date('2026-11-20T05:00:00Z');
  second.end('rpo', 'db.postgres');
  second.end('rpo', 'db.postgres');
  await second.flush();
  expect(sent[1]).toMatchObject({
    alarms: [{ over: true, since: '2026-11-20T03:00:00.000Z', at: '2026-11-20T05:00:00.000Z' }],
    open: [],
  });
  const third = open();
  third.end('rpo', 'db.postgres');
  await third.flush();
  expect(sent).toHaveLength(2);
  third.raise(missed('db.postgres'));
  await third.flush();
  expect(sent).toHaveLength(3);
});

test('an agent that dies before its message was delivered leaves the alarm to the next one', async () => {
  let delivered = () => {};
  const first = open({ flush: () => new Promise<void>((resolve) => (delivered = resolve)) });
  first.raise(missed('db.postgres'));
  const flushed = first.flush();
  while (sent.length === 0) await new Promise((resolve) => setImmediate(resolve));
  const second = open();
  second.raise(missed('db.postgres'));
  await second.flush();
  expect(told()).toHaveLength(2);
  delivered();
  await flushed;
});

test('50 alarms at once are one message, and the message names all that are open', async () => {
  const alarms = open({ gatherMs: 1 });
  for (let i = 0; i < 50; i++) alarms.raise(missed(`db${i}.postgres`));
  while (sent.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(sent).toHaveLength(1);
  expect(sent[0]?.alarms).toHaveLength(50);
  alarms.end('rpo', 'db7.postgres');
  await alarms.flush();
  expect(sent[1]).toMatchObject({ alarms: [{ source: 'db7.postgres', over: true }] });
  expect(sent[1]?.open).toHaveLength(49);
});

test('trouble that is over before anybody heard of it is no message, and neither is an end that is taken back', async () => {
  const alarms = open();
  alarms.raise(missed('db.postgres'));
  alarms.end('rpo', 'db.postgres');
  await alarms.flush();
  expect(sent).toEqual([]);
  alarms.raise(missed('db.postgres'));
  await alarms.flush();
  alarms.end('rpo', 'db.postgres');
  alarms.raise(missed('db.postgres'));
  await alarms.flush();
  expect(told()).toEqual([[['db.postgres', false]]]);
});

test('each loss of WAL is news, because it has no end', async () => {
  const alarms = open();
  for (let i = 0; i < 2; i++) {
    alarms.raise(missed('db.postgres', 'wal-gap'));
    await alarms.flush();
  }
  expect(told()).toHaveLength(2);
  expect(sent[1]?.open).toEqual([]);
});

test('several losses of WAL within the same seconds are all told', async () => {
  const alarms = open();
  const messages = ['other bytes', 'WAL is set aside', 'WAL is set aside'];
  for (const message of messages)
    alarms.raise({ topic: 'wal-gap', source: 'db.postgres', error: { code: 'WAL_DIVERGED', message } });
  await alarms.flush();
  expect(sent.flatMap((event) => event.alarms.map(({ error }) => error.message))).toEqual(messages.slice(0, 2));
});

test('alarms about sources that are gone are over', async () => {
  const alarms = open();
  for (const source of ['db.postgres', 'web.media']) alarms.raise(missed(source));
  await alarms.flush();
  alarms.endOthers(['web.media']);
  await alarms.flush();
  expect(told()[1]).toEqual([['db.postgres', true]]);
  expect(sent[1]?.alarms[0]?.error.message).toBe('no container asks for its backup any more');
});

test('alarms are sent although the spool is broken', async () => {
  await rm(directory, { recursive: true });
  const alarms = createAlarms({
    ...{ project: 'shop', directory: '/dev/null/none', log: silentLog, now: () => clock },
    dispatcher: { emit: (event) => void (event.type === 'alarms' && sent.push(event)), flush: async () => undefined },
  });
  alarms.raise(missed('db.postgres'));
  await alarms.flush();
  expect(sent).toHaveLength(1);
  directory = await mkdtemp(path.join(tmpdir(), 'alarms-'));
});
