import { expect, test } from 'vitest';
import type { PostRequest } from '../../src/report/http.ts';
import { createWebhook, webhookMessage } from '../../src/report/webhook.ts';
import { makeFailure, makeReport } from './fixtures.ts';

test('carries the whole report', () => {
  const report = makeReport({ status: 'failed', results: [makeFailure()] });
  expect(webhookMessage(report)).toEqual({ format: 1, event: 'run-finished', text: 'shop: backup failed', report });
});

test('is limited: long texts are cut, and the newest log lines stay', () => {
  const long = 'x'.repeat(10_000);
  const logTail = [...Array.from({ length: 60 }, () => long.slice(0, 5_000)), 'the newest'];
  const error = { code: 'PG_QUERY', message: long, cause: long, hint: long } as const;
  const results = Array.from({ length: 50 }, (_, i) => makeFailure({ name: `f${i}`, error }));
  const message = webhookMessage(makeReport({ results, logTail }));
  expect(JSON.stringify(message).length).toBeLessThan(1_000_000);
  expect(message.report?.logTail.at(-1)).toBe('the newest');
  expect(message.report?.results).toHaveLength(50);
});

test('a test has no report', async () => {
  const posts: PostRequest[] = [];
  const post = async (request: PostRequest) => {
    posts.push(request);
    return { status: 204, headers: {}, body: '' };
  };
  const webhook = createWebhook({ url: new URL('https://example.org/x'), project: 'shop', post });
  expect(await webhook.test(new AbortController().signal)).toBe('example.org answered 204');
  expect(posts.map((p) => JSON.parse(p.body))).toEqual([
    { format: 1, event: 'test', text: 'shop: test message from Lifeboat, no backup was made' },
  ]);
  expect(posts[0]?.contentType).toBe('application/json');
});
