import { expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { registerSecret } from '../../src/base/redact.ts';
import { createHealthchecks } from '../../src/notify/healthchecks.ts';
import type { PostRequest } from '../../src/notify/http.ts';
import { withPolicy } from '../../src/notify/policy.ts';
import { createSlack } from '../../src/notify/slack.ts';
import { createWebhook } from '../../src/notify/webhook.ts';
import type { Alarm } from '../../src/report/alarm.ts';
import { notifierOf, wordsOf } from './notifier-of.ts';

registerSecret('open-sesame');
const alarm: Alarm = {
  ...{ project: 'shop', topic: 'wal-gap', source: 'db.postgres', at: '2026-11-20T03:00:00.000Z' },
  error: { code: 'WAL_GAP', message: '2 segments of WAL from <x> on: not received, open-sesame', hint: 'look' },
  next: 'lifeboat windows db.postgres',
};
const url = new URL('https://example.org/check');

/** Passes alarms to all notifiers. Returns the path and the body of each request. */
async function sendAll(alarms: Alarm[], withoutWal = false): Promise<[path: string, body: string][]> {
  const posts: PostRequest[] = [];
  const post = async (request: PostRequest) => {
    posts.push(request);
    return { status: 200, headers: {}, body: 'ok' };
  };
  const all = [
    createHealthchecks({ target: { url }, project: 'shop', withoutWal, post, log: silentLog }),
    withPolicy(notifierOf(createSlack({ url, post })), { mode: 'change' }),
    withPolicy(notifierOf(createWebhook({ url, post })), { mode: 'failure' }),
  ];
  for (const one of all) await one.handle({ type: 'alarms', alarms, open: [] }, new AbortController().signal);
  return posts.map((request) => [request.url.pathname, String(request.body)]);
}

test('an alarm reaches every notifier, whatever LIFEBOAT_NOTIFY says, without secrets', async () => {
  const posts = await sendAll([alarm]);
  expect(posts.map(([path]) => path)).toEqual(['/check/fail', '/check', '/check']);
  for (const [, body] of posts) {
    expect(body).toContain('WAL_GAP');
    expect(body).toContain('db.postgres');
    expect(body).not.toContain('open-sesame');
  }
  expect(JSON.parse(posts[2]?.[1] ?? '')).toMatchObject({ event: 'alarm', alarm: { error: { code: 'WAL_GAP' } } });
});

test('the end of an alarm leaves the status of the check to the next run', async () => {
  const posts = await sendAll([{ ...alarm, over: true, since: '2026-11-20T01:00:00.000Z' }]);
  expect(posts[0]?.[0]).toBe('/check/log');
  expect(posts[1]?.[1]).toContain('over after 2h:');
});

test('alarms about WAL leave the check of backups alone if they have their own', async () => {
  const missed: Alarm = { ...alarm, topic: 'rpo', error: { code: 'RPO_MISSED', message: 'too old' } };
  expect((await sendAll([alarm], true)).map(([path]) => path)).toEqual(['/check', '/check']);
  const [check] = await sendAll([alarm, missed], true);
  expect(check).toEqual(['/check/fail', 'db.postgres: too old (RPO_MISSED)']);
});

test('50 alarms at once are one message, which names the sources, each hint once, and a command', async () => {
  const many = Array.from({ length: 50 }, (_, i) => ({ ...alarm, source: `db${i}.postgres`, safe: 'the same' }));
  const posts = await sendAll(many);
  expect(posts).toHaveLength(3);
  const { title, facts, safe, next, level } = wordsOf({ type: 'alarms', alarms: many, open: many });
  expect(title).toMatch(/^shop: 50 alarms: db0\.postgres, .*, and 25 more$/);
  expect(facts.filter((line) => line === 'hint: look')).toHaveLength(1);
  expect({ safe, next, level }).toEqual({ safe: ['the same'], next: ['`lifeboat windows db.postgres`'], level: 'bad' });
});

test('one incident stands for all alarms of a topic, and ends with the last of them', () => {
  const [first, second] = [alarm, { ...alarm, source: 'other.postgres' }].map(
    (one) => ({ ...one, topic: 'wal' }) as Alarm,
  );
  const incidents = (alarms: Alarm[], open: Alarm[]) => wordsOf({ type: 'alarms', alarms, open }).incidents;
  expect(incidents([first!, second!], [first!, second!])).toMatchObject([{ key: 'wal', over: false }]);
  expect(incidents([{ ...first!, over: true }], [second!])).toMatchObject([{ key: 'wal', over: false }]);
  expect(incidents([{ ...second!, over: true }], [])).toMatchObject([{ key: 'wal', over: true }]);
});
