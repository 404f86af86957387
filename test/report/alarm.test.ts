import { expect, test } from 'vitest';
import { registerSecret } from '../../src/base/redact.ts';
import type { Alarm } from '../../src/report/alarm.ts';
import { createHealthchecks } from '../../src/report/healthchecks.ts';
import type { PostRequest } from '../../src/report/http.ts';
import { withPolicy } from '../../src/report/policy.ts';
import { createSlack } from '../../src/report/slack.ts';
import { createWebhook } from '../../src/report/webhook.ts';

registerSecret('open-sesame');
const alarm: Alarm = {
  ...{ project: 'shop', source: 'db.postgres', at: '2026-11-20T03:00:00.000Z' },
  error: { code: 'WAL_GAP', message: '2 segments of WAL from <x> on: not received, open-sesame', hint: 'look' },
};
const url = new URL('https://example.org/check');

/** Passes an alarm to all notifiers. Returns the path and the body of each request. */
async function sendAll(sent: Alarm): Promise<[path: string, body: string][]> {
  const posts: PostRequest[] = [];
  const post = async (request: PostRequest) => {
    posts.push(request);
    return { status: 200, headers: {}, body: 'ok' };
  };
  const all = [
    createHealthchecks({ target: { url }, project: 'shop', post }),
    withPolicy(createSlack({ url, project: 'shop', post }), 'change'),
    withPolicy(createWebhook({ url, project: 'shop', post }), 'failure'),
  ];
  for (const one of all) await one.handle({ type: 'alarm', alarm: sent }, new AbortController().signal);
  return posts.map((request) => [request.url.pathname, String(request.body)]);
}

test('an alarm reaches every notifier, whatever LIFEBOAT_NOTIFY says, without secrets', async () => {
  const posts = await sendAll(alarm);
  expect(posts.map(([path]) => path)).toEqual(['/check/fail', '/check', '/check']);
  for (const [, body] of posts) {
    expect(body).toContain('WAL_GAP');
    expect(body).toContain('db.postgres');
    expect(body).not.toContain('open-sesame');
  }
  expect(JSON.parse(posts[2]?.[1] ?? '')).toMatchObject({ event: 'alarm', alarm: { error: { code: 'WAL_GAP' } } });
});

test('the end of an alarm leaves the status of the check to the next run', async () => {
  const posts = await sendAll({ ...alarm, over: true });
  expect(posts[0]?.[0]).toBe('/check/log');
  expect(posts[1]?.[1]).toContain('over:');
});
