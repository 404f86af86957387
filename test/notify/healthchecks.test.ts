import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { silentLog, withTail } from '../../src/base/log.ts';
import { createHealthchecks } from '../../src/notify/healthchecks.ts';
import { createPost, type PostRequest } from '../../src/notify/http.ts';
import { createPace, cutText, pingBody, pingUrl, toSlug } from '../../src/notify/ping.ts';
import type { RunEvent, RunReport } from '../../src/report/events.ts';
import { type Receiver, startReceiver } from '../harness/receiver.ts';
import { WAIT } from '../harness/wait.ts';
import { makeFailure, makeReport, makeResult, NOW } from '../report/fixtures.ts';

const NEVER = new AbortController().signal;
const UUID = '5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278';
const RID = makeReport().rid;
let receiver: Receiver;
beforeAll(async () => {
  receiver = await startReceiver();
});
afterAll(() => receiver.close());
beforeEach(() => {
  receiver.requests.length = 0;
  receiver.behave({});
});

const started = (): RunEvent => ({ type: 'run-started', run: makeReport() });
const finished = (over: Partial<RunReport> = {}): RunEvent => ({ type: 'run-finished', report: makeReport(over) });
const create = (now = () => NOW.getTime()) =>
  createHealthchecks({
    target: { url: new URL(`${receiver.url}/${UUID}`) },
    project: 'shop',
    zone: 'UTC',
    log: silentLog,
    post: createPost({ random: () => 0 }),
    now,
  });

describe('URLs', () => {
  const key = { pingKey: 'KeY/1', slug: 'My Shop!' };
  test.each([
    [{ url: new URL('https://hc-ping.com/abc') }, 'success', 'https://hc-ping.com/abc?rid=R'],
    [{ url: new URL('https://hc-ping.com/abc/') }, 'fail', 'https://hc-ping.com/abc/fail?rid=R'],
    [
      { url: new URL('https://h.example/ping/k/s?create=1') },
      'start',
      'https://h.example/ping/k/s/start?create=1&rid=R',
    ],
    [{ url: new URL('https://h.example/p/?a=b#frag') }, 'log', 'https://h.example/p/log?a=b&rid=R'],
    [{ url: new URL('https://h.example/p?rid=old') }, 'success', 'https://h.example/p?rid=R'],
    [key, 'success', 'https://hc-ping.com/KeY%2F1/my-shop?create=1&rid=R'],
    [
      { ...key, base: 'https://hc.example.org/ping/' },
      'fail',
      'https://hc.example.org/ping/KeY%2F1/my-shop/fail?create=1&rid=R',
    ],
  ] as const)('%o %s', (target, kind, url) => {
    expect(pingUrl(target, kind, 'R').href).toBe(url);
  });

  test.each([
    ['shop', 'shop'],
    ['My Shop!', 'my-shop'],
    ['a__b-c', 'a__b-c'],
    ['你好', 'lifeboat'],
  ])('toSlug(%s)', (name, slug) => {
    expect(toSlug(name)).toBe(slug);
  });
});

test('a run is a start and a success with the same rid', async () => {
  const healthchecks = create();
  await healthchecks.handle(started(), NEVER);
  await healthchecks.handle(finished(), NEVER);
  expect(receiver.requests.map((r) => [r.method, r.path, r.query.rid])).toEqual([
    ['POST', `/${UUID}/start`, RID],
    ['POST', `/${UUID}`, RID],
  ]);
  expect(receiver.requests[1]?.body).toContain('shop: backup ok\nSnapshot 20261120T030000Z-4f1c9a');
  expect(receiver.requests[1]?.body).toContain('\n\nlog:\n2026-11-20T03:00:00Z info run started\n');
});

test.each(['partial', 'failed'] as const)('%s is a fail', async (status) => {
  await create().handle(finished({ status, results: [makeResult(), makeFailure()] }), NEVER);
  expect(receiver.requests.map((r) => r.path)).toEqual([`/${UUID}/fail`]);
  const body = receiver.requests[0]?.body ?? '';
  expect(body.indexOf('db.postgres')).toBeLessThan(body.indexOf('web.media'));
});

test('a good run does not count as a success while a source that it left out needs attention', async () => {
  const others = [{ name: 'db.postgres', attention: 'failed' as const }];
  await create().handle(finished({ others }), NEVER);
  expect(receiver.requests.map((r) => r.path)).toEqual([`/${UUID}/fail`]);
  expect(receiver.requests[0]?.body).toContain('shop: backup ok, but db.postgres needs attention');
});

test('events between the start and the end are not pinged', async () => {
  const healthchecks = create();
  await healthchecks.handle({ type: 'source-started', source: 'a' }, NEVER);
  await healthchecks.handle({ type: 'source-finished', result: makeResult() }, NEVER);
  expect(receiver.requests).toEqual([]);
});

describe('the body', () => {
  const logTail = Array.from({ length: 100 }, (_, i) => `line ${i} ${'ü'.repeat(150)}`);

  test('is cut to 10,000 bytes if the server names no limit', async () => {
    await create().handle(finished({ logTail }), NEVER);
    const body = receiver.requests[0]?.body ?? '';
    expect(Buffer.byteLength(body)).toBeLessThanOrEqual(10_000);
    expect(Buffer.byteLength(body)).toBeGreaterThan(9_000);
    expect(body).toMatch(/^shop: backup ok/);
    expect(body).toContain('line 99 ');
    expect(body).not.toContain('line 0 ');
  });

  test('is cut to the limit that the server named before', async () => {
    receiver.behave({ headers: { 'Ping-Body-Limit': '1500' } });
    const healthchecks = create();
    await healthchecks.handle(started(), NEVER);
    await healthchecks.handle(finished({ logTail }), NEVER);
    const size = Buffer.byteLength(receiver.requests[1]?.body ?? '');
    expect(size).toBeLessThanOrEqual(1_500);
    expect(size).toBeGreaterThan(1_000);
  });

  test('keeps the beginning of a report that is too long, and the failures', async () => {
    const results = Array.from({ length: 2_000 }, (_, i) => makeResult({ name: `s${i}` }));
    await create().handle(finished({ status: 'partial', results: [...results, makeFailure()], logTail }), NEVER);
    const body = receiver.requests[0]?.body ?? '';
    expect(Buffer.byteLength(body)).toBeLessThanOrEqual(10_000);
    expect(body).toContain('PG_RESTARTED');
  });

  test('never exceeds the limit nor splits a character', () => {
    const text = fc
      .array(fc.constantFrom('a', 'é', '你', '😀', '\n'), { maxLength: 30 })
      .map((chars) => chars.join(''));
    fc.assert(
      fc.property(text, fc.array(text, { maxLength: 4 }), fc.integer({ min: 0, max: 120 }), (report, lines, limit) => {
        const body = pingBody(report, lines, limit);
        expect(Buffer.byteLength(body)).toBeLessThanOrEqual(limit);
        expect(body).not.toContain('\ufffd');
      }),
    );
    expect(cutText('aé', 3)).toBe('aé');
    expect(cutText('aéééé', 6)).toBe('aé…');
    expect(cutText('你好', 2)).toBe('');
  });
});

describe('five pings a minute', () => {
  test('no window of a minute has more, including retries', async () => {
    receiver.behave({ status: 500 });
    const healthchecks = create();
    for (let run = 0; run < 3; run++) {
      await Promise.allSettled([healthchecks.handle(started(), NEVER)]);
      const stop = new AbortController();
      const told = Promise.allSettled([healthchecks.handle(finished(), stop.signal)]);
      await vi.waitFor(() => expect(receiver.requests.length).toBeGreaterThanOrEqual(5), WAIT);
      // Long enough for one more, if it were sent.
      await delay(50);
      stop.abort();
      await told;
    }
    expect(receiver.requests).toHaveLength(5);
  });

  test('starts leave room for results', async () => {
    const healthchecks = create();
    for (let run = 0; run < 4; run++) await healthchecks.handle(started(), NEVER);
    await healthchecks.handle(finished(), NEVER);
    await healthchecks.handle(finished({ status: 'failed' }), NEVER);
    expect(receiver.requests.map((r) => r.path.split('/')[2] ?? 'success')).toEqual([
      'start',
      'start',
      'start',
      'success',
      'fail',
    ]);
  });

  test('a request for a slot waits until the window has room', async () => {
    const pace = createPace(2, 60);
    const start = performance.now();
    for (let i = 0; i < 3; i++) await pace.take(NEVER);
    expect(performance.now() - start).toBeGreaterThanOrEqual(50);
  });

  test('and ends when its signal aborts', async () => {
    const pace = createPace(1, 60_000);
    await pace.take(NEVER);
    await expect(pace.take(AbortSignal.timeout(10))).rejects.toThrow('more than 1 pings a minute');
    await delay(1);
    expect(pace.used()).toBe(1);
  });
});

describe('a ping that is answered 200 but ignored', () => {
  test.each([
    ['OK (not found)', 'ignored the ping: not found'],
    ['OK (rate limited)', 'ignored the ping: rate limited'],
  ])('%s is an error', async (body, message) => {
    receiver.behave({ body });
    await expect(Promise.resolve(create().handle(finished(), NEVER))).rejects.toThrow(message);
  });
});

describe('alarms', () => {
  const alarmed = (): RunEvent => ({
    ...{ type: 'alarms', open: [] },
    alarms: [{ project: 'shop', topic: 'rpo', source: 'db', at: '', error: { code: 'RPO_MISSED', message: 'old' } }],
  });
  const paths = () => receiver.requests.map((r) => r.path.split('/')[2] ?? 'success');

  test('one that waits arrives before the result of a run, or never', async () => {
    const healthchecks = create();
    receiver.behave({ status: 500 });
    await expect(Promise.resolve(healthchecks.handle(alarmed(), NEVER))).rejects.toThrow('500');
    receiver.requests.length = 0;
    receiver.behave({});
    await healthchecks.handle(finished(), NEVER);
    expect(paths()).toEqual(['fail', 'success']);
  });

  test('one that cannot be sent before a success is dropped after it', async () => {
    const { log, tail } = withTail(silentLog);
    let broken = true;
    const sent: string[] = [];
    const post = async ({ url }: PostRequest) => {
      if (broken && url.pathname.endsWith('/fail')) throw new Error('down');
      sent.push(url.pathname);
      return { status: 200, headers: {}, body: 'ok' };
    };
    let clock = NOW.getTime();
    const target = { url: new URL('https://example.org/check') };
    const healthchecks = createHealthchecks({ target, project: 'shop', log, post, now: () => clock });
    await expect(Promise.resolve(healthchecks.handle(alarmed(), NEVER))).rejects.toThrow('down');
    clock += 120_000;
    await healthchecks.handle(finished(), NEVER);
    broken = false;
    await healthchecks.handle(finished(), NEVER);
    expect(sent).toEqual(['/check', '/check']);
    expect(tail().join()).toContain('a message was never sent: a newer one replaces it');
  });

  test('leave room for the results of runs', async () => {
    const healthchecks = create();
    for (let i = 0; i < 3; i++) await healthchecks.handle(alarmed(), NEVER);
    await expect(Promise.resolve(healthchecks.handle(alarmed(), NEVER))).rejects.toThrow('kept for runs');
    await healthchecks.handle(finished(), NEVER);
    expect(paths()).toEqual(['fail', 'fail', 'fail', 'success']);
  });
});

test('a test is a log entry, which leaves the status of the check alone', async () => {
  const line = await create().test(NEVER);
  expect(receiver.requests).toMatchObject([{ path: `/${UUID}/log`, query: {} }]);
  expect(receiver.requests[0]?.body).toBe('shop: test message from Lifeboat, no backup was made');
  expect(line).toBe(`127.0.0.1:${receiver.port} accepted a log entry; the check's status is unchanged`);
});
