import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Channel } from '../../src/notify/channel.ts';
import { createDiscord, escapeMarkdown } from '../../src/notify/discord.ts';
import { createNtfy } from '../../src/notify/ntfy.ts';
import { createPagerDuty } from '../../src/notify/pagerduty.ts';
import { createTelegram } from '../../src/notify/telegram.ts';
import type { Alarm } from '../../src/report/alarm.ts';
import type { RunReport } from '../../src/report/events.ts';
import { makeFailure, makeReport, makeResult, NOW } from '../report/fixtures.ts';
import { notifierOf, runWords } from './notifier-of.ts';
import { type ProtocolServer, startProtocolServer } from './protocol-servers.ts';

const { signal } = new AbortController();
const TOKEN = '123456:ABCdefGHIjklMNOpqrSTUvwxYZ0123456789';
const bad = makeReport({ status: 'partial', results: [makeFailure(), makeResult()] });

/** How each channel is created for a server, and which text of a request people read. */
const CHANNELS = {
  discord: {
    create: (url: string) => createDiscord({ url: new URL(`${url}/api/webhooks/1/tok-en`) }),
    read: ({ embeds }: Record<string, unknown>) =>
      (embeds as { title: string; description: string }[]).map((one) => `${one.title}\n${one.description}`).join('\n'),
  },
  telegram: {
    create: (url: string) => createTelegram({ base: url, token: TOKEN, chat: '-1001' }),
    read: ({ text }: Record<string, unknown>) => String(text),
  },
  ntfy: {
    create: (url: string) => createNtfy({ url: new URL(`${url}/shop-backups`), token: 'tk_1' }),
    read: ({ title, message }: Record<string, unknown>) => `${title}\n${message}`,
  },
  pagerduty: {
    create: (url: string) => createPagerDuty({ base: url, routingKey: 'r'.repeat(32) }),
    read: ({ payload }: Record<string, unknown>) => JSON.stringify(payload),
  },
} satisfies Record<string, { create(url: string): Channel; read(body: Record<string, unknown>): string }>;

describe.each(Object.keys(CHANNELS) as (keyof typeof CHANNELS)[])('%s', (name) => {
  let server: ProtocolServer;
  let channel: Channel;
  beforeEach(async () => {
    server = await startProtocolServer(name);
    channel = CHANNELS[name].create(server.url);
  });
  afterEach(() => server.close());
  const read = () =>
    server.accepted
      .map(({ body }) => CHANNELS[name].read(body))
      .join('\n')
      .replaceAll('\\', '');
  const sendRun = (report: RunReport) => notifierOf(channel).handle({ type: 'run-finished', report }, signal);

  test('says what happened, what is safe, and the next command', async () => {
    await sendRun(bad);
    expect(server.refused).toEqual([]);
    expect(server.accepted).toHaveLength(1);
    const text = read();
    expect(text).toContain('shop: backup partly failed (1 of 2 sources)');
    expect(text).toContain('dump ended early: container restarted (PG_RESTARTED)');
    expect(text).toContain('safe: the last good snapshot is 24h old (20261119T030000Z-aa01be)');
    expect(text).toContain('docker compose exec lifeboat lifeboat backup db.postgres');
  });

  test('stays within the limits of the service with 200 sources, huge errors and names', async () => {
    const long = '*x*<@&1>`'.repeat(2_000);
    const error = { code: 'PG_QUERY', message: long, cause: long, hint: long } as const;
    const results = Array.from({ length: 200 }, (_, i) => makeFailure({ name: `f${i}${long}`, error }));
    await sendRun(makeReport({ project: 'shop', status: 'failed', results, error }));
    expect(server.refused).toEqual([]);
    expect(server.accepted).toHaveLength(1);
  });

  test('waits as long as the service asks it to', async () => {
    server.limitOnce();
    await sendRun(bad);
    expect(server.accepted).toHaveLength(1);
  });

  test('a test is a sample, and a refusal names neither URL nor token', async () => {
    const notifier = notifierOf(channel);
    expect(await notifier.test(signal)).toContain('127.0.0.1');
    expect(read()).toContain('test message from Lifeboat');
    const wrong = CHANNELS[name].create(`${server.url}/wrong`);
    const error = await wrong.send(runWords(bad), signal).catch((reason: unknown) => String(reason));
    expect(error).toMatch(/127\.0\.0\.1:\d+ answered 40\d/);
    for (const secret of [TOKEN, 'tok-en', 'shop-backups', 'tk_1']) expect(error).not.toContain(secret);
  });
});

test('the title of a Discord message is no markup, and stays within its limit', async () => {
  const server = await startProtocolServer('discord');
  try {
    const channel = CHANNELS.discord.create(server.url);
    await channel.send({ ...runWords(bad), title: `**shop_1_**${'_'.repeat(300)}` }, signal);
    expect(server.refused).toEqual([]);
    const [request] = server.accepted;
    expect((request?.body.embeds as { title: string }[] | undefined)?.[0]?.title).toMatch(/^\\\*\\\*shop\\_1/);
  } finally {
    await server.close();
  }
});

describe('PagerDuty', () => {
  let server: ProtocolServer;
  beforeEach(async () => {
    server = await startProtocolServer('pagerduty');
  });
  afterEach(() => server.close());
  const open = () => notifierOf(CHANNELS.pagerduty.create(server.url));
  const events = () => server.accepted.map(({ body }) => [body.event_action, body.dedup_key]);

  test('triggers and resolves one incident by its dedup key', async () => {
    const notifier = open();
    for (const report of [bad, bad, makeReport()]) await notifier.handle({ type: 'run-finished', report }, signal);
    const key = 'lifeboat/shop/backup';
    expect(events()).toEqual([
      ['trigger', key],
      ['trigger', key],
      ['resolve', key],
    ]);
  });

  test('a good run resolves nothing while another source needs attention', async () => {
    const report = makeReport({ others: [{ name: 'other', attention: 'failed' }] });
    await open().handle({ type: 'run-finished', report }, signal);
    expect(events()).toEqual([['trigger', 'lifeboat/shop/backup']]);
  });

  test('50 alarms are one event, and a restore is none', async () => {
    const alarm = (i: number): Alarm => ({
      ...{ project: 'shop', topic: 'rpo', source: `db${i}.postgres`, at: NOW.toISOString() },
      error: { code: 'RPO_MISSED', message: 'too old' },
    });
    const alarms = Array.from({ length: 50 }, (_, i) => alarm(i));
    const notifier = open();
    await notifier.handle({ type: 'alarms', alarms, open: alarms }, signal);
    await notifier.handle(
      {
        type: 'restore-started',
        restore: { id: 'r', project: 'shop', verb: 'restore', source: 'a', target: 'a', snapshot: 's', start: '' },
      },
      signal,
    );
    expect(events()).toEqual([['trigger', 'lifeboat/shop/rpo']]);
  });
});

test('Discord shows names of containers as they are, and commands as code', () => {
  expect(escapeMarkdown('*a* @everyone [x](y) `lifeboat backup a_b`')).toBe(
    '\\*a\\* \\@everyone \\[x\\]\\(y\\) `lifeboat backup a_b`',
  );
});

test('ntfy sends its token, and a failure with a high priority', async () => {
  const server = await startProtocolServer('ntfy');
  const notifier = notifierOf(CHANNELS.ntfy.create(server.url));
  await notifier.handle({ type: 'run-finished', report: bad }, signal);
  await notifier.handle({ type: 'run-finished', report: makeReport() }, signal);
  await server.close();
  expect(server.accepted.map(({ body, headers }) => [body.topic, body.priority, headers.authorization])).toEqual([
    ['shop-backups', 4, 'Bearer tk_1'],
    ['shop-backups', 3, 'Bearer tk_1'],
  ]);
});
