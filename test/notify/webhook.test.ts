import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import type { PostRequest } from '../../src/notify/http.ts';
import { createWebhook, signature, webhookMessage } from '../../src/notify/webhook.ts';
import { makeFailure, makeReport, NOW } from '../report/fixtures.ts';
import { notifierOf, runWords } from './notifier-of.ts';

test('carries the whole report, and the same words as other channels', () => {
  const report = makeReport({ status: 'failed', results: [makeFailure()] });
  expect(webhookMessage(runWords(report))).toEqual({
    ...{ format: 1, event: 'run-finished', project: 'shop', at: report.end, level: 'bad', text: 'shop: backup failed' },
    facts: expect.arrayContaining([expect.stringContaining('PG_RESTARTED')]),
    safe: [expect.stringMatching(/^the last good snapshot is 24h old .*: db\.postgres$/)],
    next: expect.arrayContaining(['`docker compose exec lifeboat lifeboat backup db.postgres`']),
    report,
  });
});

test('is limited: long texts are cut, and the newest log lines stay', () => {
  const long = 'x'.repeat(10_000);
  const logTail = [...Array.from({ length: 60 }, () => long.slice(0, 5_000)), 'the newest'];
  const error = { code: 'PG_QUERY', message: long, cause: long, hint: long } as const;
  const results = Array.from({ length: 50 }, (_, i) => makeFailure({ name: `f${i}`, error }));
  const message = webhookMessage(runWords(makeReport({ results, logTail })));
  expect(JSON.stringify(message).length).toBeLessThan(1_000_000);
  expect(message.report?.logTail.at(-1)).toBe('the newest');
  expect(message.report?.results).toHaveLength(50);
});

test('a test has no report, and a secret signs each request', async () => {
  const posts: PostRequest[] = [];
  const post = async (request: PostRequest) => {
    posts.push(request);
    return { status: 204, headers: {}, body: '' };
  };
  const now = () => NOW.getTime();
  const webhook = createWebhook({ url: new URL('https://example.org/x'), secret: 's3cret', post, now });
  expect(await notifierOf(webhook).test(new AbortController().signal)).toBe('example.org answered 204');
  const [request] = posts;
  expect(JSON.parse(request?.body ?? '')).toMatchObject({
    ...{ format: 1, event: 'test', text: 'shop: test message from Lifeboat, no backup was made' },
  });
  expect(request?.contentType).toBe('application/json');
  const [time, value] = (request?.headers?.['lifeboat-signature'] ?? '').split(',');
  expect(time).toBe(`t=${NOW.getTime() / 1_000}`);
  const seconds = time?.slice(2);
  expect(value).toBe(`v1=${createHmac('sha256', 's3cret').update(`${seconds}.${request?.body}`).digest('hex')}`);
});

test('a signature depends on the key, the body and the time', () => {
  const all = [signature('a', 'x', 0), signature('b', 'x', 0), signature('a', 'y', 0), signature('a', 'x', 5_000)];
  expect(new Set(all.map((one) => one.split('v1=')[1])).size).toBe(4);
  expect(signature('a', 'x', 999)).toBe(signature('a', 'x', 0));
});
