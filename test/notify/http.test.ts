import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { errorInfo, LifeboatError } from '../../src/base/errors.ts';
import { redact } from '../../src/base/redact.ts';
import { createPost, parseRetryAfter, secretUrl } from '../../src/notify/http.ts';
import { type Receiver, startReceiver } from '../harness/receiver.ts';
import { WAIT } from '../harness/wait.ts';

const NEVER = new AbortController().signal;
let receiver: Receiver;
beforeAll(async () => {
  receiver = await startReceiver();
});
afterAll(() => receiver.close());
beforeEach(() => {
  receiver.requests.length = 0;
  receiver.behave({});
});

const fast = (options = {}) => createPost({ random: () => 0, ...options });
const send = (post = fast(), over: { path?: string; signal?: AbortSignal; body?: string; attempts?: number } = {}) =>
  post({
    url: new URL(receiver.url + (over.path ?? '/hook/ABCDEFGHIJKLMNOPQRST?k=v')),
    body: over.body ?? 'hello',
    contentType: 'text/plain',
    signal: over.signal ?? NEVER,
    ...(over.attempts === undefined ? {} : { attempts: over.attempts }),
  });
const failure = (sent: Promise<unknown>): Promise<LifeboatError> =>
  sent.then(
    () => expect.unreachable('should have failed'),
    (error) => {
      expect(error).toBeInstanceOf(LifeboatError);
      expect(error.code).toBe('NOTIFY_FAILED');
      return error;
    },
  );

test('posts the body and returns status, headers and text', async () => {
  receiver.behave({ status: 201, headers: { 'Ping-Body-Limit': '77' }, body: 'made' });
  const answer = await send();
  expect(answer).toMatchObject({ status: 201, body: 'made', headers: { 'ping-body-limit': '77' } });
  expect(receiver.requests).toMatchObject([
    { method: 'POST', path: '/hook/ABCDEFGHIJKLMNOPQRST', query: { k: 'v' }, body: 'hello' },
  ]);
  expect(receiver.requests[0]?.headers['content-type']).toBe('text/plain');
});

test.each([
  ['500', { status: 500 }],
  ['503', { status: 503 }],
  ['429', { status: 429, headers: { 'Retry-After': '0' } }],
  ['a cut connection', { reset: true }],
])('%s is tried again', async (_name, behaviour) => {
  receiver.behave([behaviour, behaviour, {}]);
  await send();
  expect(receiver.requests.map((r) => r.body)).toEqual(['hello', 'hello', 'hello']);
});

test.each([301, 400, 403, 404, 410])('status %d is not tried again', async (status) => {
  receiver.behave({ status, body: 'no_service', headers: { location: '/elsewhere' } });
  const error = await failure(send());
  expect(receiver.requests).toHaveLength(1);
  expect(error.message).toBe(`127.0.0.1:${receiver.port} answered ${status}: no_service`);
});

test('pauses grow, with jitter, up to a limit', async () => {
  receiver.behave({ status: 500 });
  const pauses: number[] = [];
  const sleep = async (ms: number) => pauses.push(ms);
  await failure(send(createPost({ attempts: 7, sleep, random: () => 0.5 })));
  expect(pauses).toEqual([250, 500, 1_000, 2_000, 2_500, 2_500]);
});

test('the number of attempts is limited', async () => {
  receiver.behave({ status: 500 });
  await failure(send());
  expect(receiver.requests).toHaveLength(4);
  await failure(send(fast(), { attempts: 2 }));
  expect(receiver.requests).toHaveLength(6);
});

describe('Retry-After', () => {
  test.each([
    ['120', 120_000],
    [' 0 ', 0],
    ['Fri, 20 Nov 2026 03:01:00 GMT', 60_000],
    ['Fri, 20 Nov 2026 02:00:00 GMT', 0],
    ['soon', undefined],
    [undefined, undefined],
  ])('%s', (value, ms) => {
    expect(parseRetryAfter(value, Date.parse('2026-11-20T03:00:00Z'))).toBe(ms);
  });

  test('is respected', async () => {
    receiver.behave([{ status: 429, headers: { 'Retry-After': '7' } }, {}]);
    const pauses: number[] = [];
    await send(fast({ sleep: async (ms: number) => pauses.push(ms) }));
    expect(pauses).toEqual([7_000]);
  });

  test('beyond the time limit ends the request at once', async () => {
    receiver.behave({ status: 429, headers: { 'Retry-After': '3600' } });
    const pauses: number[] = [];
    const post = fast({ sleep: async (ms: number) => pauses.push(ms) });
    expect((await failure(send(post))).message).toContain('answered 429');
    expect(pauses).toEqual([]);
    expect(receiver.requests).toHaveLength(1);
  });
});

describe('a server that does not answer', () => {
  test('is tried again after the limit of an attempt', async () => {
    receiver.behave([{ hang: true }, {}]);
    await send(fast({ attemptMs: 1_000 }));
    expect(receiver.requests.length).toBeGreaterThanOrEqual(2);
  });

  test('is abandoned after the limit of all attempts', async () => {
    receiver.behave({ hang: true });
    const start = performance.now();
    const error = await failure(send(fast({ attemptMs: 60_000, limitMs: 60 })));
    expect(error.message).toBe(`no message could be sent to 127.0.0.1:${receiver.port}: no answer in time`);
    expect(performance.now() - start).toBeLessThan(15_000);
  });

  test('is abandoned even if its body arrives slowly', async () => {
    receiver.behave({ slowMs: 20, body: 'x'.repeat(1_000) });
    await failure(send(fast({ attemptMs: 60, attempts: 1 })));
  });

  test('is abandoned when the signal aborts', async () => {
    receiver.behave({ hang: true });
    const stop = new AbortController();
    const failed = failure(send(fast({ attemptMs: 60_000 }), { signal: stop.signal, path: '/hook/aborted' }));
    // A request that an earlier test abandoned may arrive only now.
    const arrived = () => receiver.requests.filter(({ path }) => path === '/hook/aborted');
    await vi.waitFor(() => expect(arrived()).toHaveLength(1), WAIT);
    stop.abort();
    await failed;
    expect(arrived()).toHaveLength(1);
  });
});

test('an endless answer is not read to its end', async () => {
  receiver.behave({ body: 'y'.repeat(100_000), headers: { 'Content-Length': '9000000' } });
  expect((await send()).body).toHaveLength(64 * 1024);
});

test('a huge body is refused before it is sent', async () => {
  await failure(send(fast(), { body: 'x'.repeat(1024 * 1024 + 1) }));
  expect(receiver.requests).toHaveLength(0);
});

test('credentials in the URL are sent as a header', async () => {
  const url = new URL(`http://me:p%40ss@127.0.0.1:${receiver.port}/x`);
  await fast()({ url, body: '', contentType: 'text/plain', signal: NEVER });
  expect(receiver.requests[0]?.headers.authorization).toBe(`Basic ${Buffer.from('me:p@ss').toString('base64')}`);
});

describe('errors do not contain the URL', () => {
  const token = 'T0KENT0KENT0KENT0KEN';
  test.each([
    ['a server that echoes it', { status: 404, body: `Cannot POST /hook/${token}?k=v` }],
    ['a cut connection', { reset: true }],
    ['a server error', { status: 500, body: token }],
  ])('%s', async (_name, behaviour) => {
    receiver.behave(behaviour);
    const url = secretUrl(`${receiver.url}/hook/${token}?k=v`, 'LIFEBOAT_WEBHOOK_URL');
    const error = await failure(fast({ attempts: 1 })({ url, body: '', contentType: 'text/plain', signal: NEVER }));
    expect(JSON.stringify(errorInfo(error)) + error.stack).not.toContain(token);
  });

  test('even if a server echoes a short path that was not registered as a secret', async () => {
    receiver.behave({ status: 404, body: 'Cannot POST /h/s3cr3t?k=v' });
    expect((await failure(send(fast(), { path: '/h/s3cr3t?k=v' }))).message).toMatch(
      /answered 404: Cannot POST \[url\]$/,
    );
  });

  test('a name that does not resolve, and a closed port', async () => {
    for (const origin of ['http://no-such-host.invalid', 'http://127.0.0.1:1']) {
      const url = new URL(`${origin}/hook/${token}`);
      const error = await failure(fast({ attempts: 1 })({ url, body: '', contentType: 'text/plain', signal: NEVER }));
      expect(error.message).toContain(url.host);
      expect(JSON.stringify(errorInfo(error)) + error.stack).not.toContain(token);
    }
  });
});

describe('secretUrl', () => {
  test('hides the URL, its password and its long parts, and no short words', () => {
    const value = 'https://bob:hunter22@example.org/backups/a1b2c3d4e5f6a7b8?key=0123456789abcdefXYZ&x=daily';
    secretUrl(value, 'X');
    expect(redact(`see ${value}`)).toBe('see [redacted]');
    expect(redact('a1b2c3d4e5f6a7b8 0123456789abcdefXYZ hunter22')).toBe('[redacted] [redacted] [redacted]');
    expect(redact('/backups daily example.org')).toBe('/backups daily example.org');
  });

  test.each(['not a url TOPSECRETVALUE', 'ftp://TOPSECRETVALUE/', '', 'TOPSECRETVALUE'])(
    'refuses %j without repeating it',
    (value) => {
      expect(() => secretUrl(value, 'LIFEBOAT_SLACK_WEBHOOK_URL')).toThrow(
        'LIFEBOAT_SLACK_WEBHOOK_URL is not an http or https URL',
      );
    },
  );

  test('accepts a bare % in a path', () => {
    expect(secretUrl('https://example.org/100%-sure-that-this-is-long', 'X').host).toBe('example.org');
  });
});

describe('proxies', () => {
  const saved = process.env.HTTP_PROXY;
  afterEach(() => {
    if (saved === undefined) delete process.env.HTTP_PROXY;
    else process.env.HTTP_PROXY = saved;
  });

  test('HTTP_PROXY is honoured', async () => {
    process.env.HTTP_PROXY = 'http://127.0.0.1:1';
    const url = new URL('http://example.invalid/x');
    const error = await failure(fast({ attempts: 1 })({ url, body: '', contentType: 'text/plain', signal: NEVER }));
    // The request used the proxy's port. Without it, the name would not have resolved.
    expect(error.message).toContain('ECONNREFUSED');
  });
});
