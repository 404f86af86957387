import { Hono } from 'hono';
import { afterEach, describe, expect, test } from 'vitest';
import { silentLog, withTail } from '../../src/base/log.ts';
import { forgetSecrets, registerSecret } from '../../src/base/redact.ts';
import { createAuth } from '../../src/http/auth.ts';
import { networkOf } from '../../src/http/guess-limit.ts';
import { makeFacts, serve } from './fixtures.ts';

const PASSWORD = 'correct horse battery';
const TOKEN = 'f00dfeedf00dfeed';
const http = { port: 8080, user: 'lifeboat' };

const basic = (user: string, password: string) => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
const ask = (options: Parameters<typeof serve>[0], authorization?: string, path = '/') =>
  serve(options).request(path, authorization === undefined ? {} : { headers: { authorization } });

describe('credentials', () => {
  const both = { http: { ...http, password: PASSWORD, token: TOKEN } };

  test.each(['/', '/metrics', '/api/status', '/snapshots', '/nothing'])('%s needs them', async (path) => {
    const response = await ask(both, undefined, path);
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toBe(
      'Basic realm="Lifeboat", charset="UTF-8", Bearer realm="Lifeboat"',
    );
    expect(await response.text()).toBe('Lifeboat needs a password or token.\n');
  });

  test.each([basic('lifeboat', PASSWORD), `Bearer ${TOKEN}`, `bearer ${TOKEN}`])('%s is accepted', async (header) => {
    expect((await ask(both, header)).status).toBe(200);
  });

  test.each([
    ...['', 'Basic', 'Bearer', 'Bearer ', `Bearer ${TOKEN}x`, `Bearer ${TOKEN.slice(1)}`, `Basic ${TOKEN}`],
    ...[basic('root', PASSWORD), basic('lifeboat', `${PASSWORD} `), basic('lifeboat', ''), TOKEN, `Digest ${TOKEN}`],
    // A token is no password, and a password is no token.
    ...[basic('lifeboat', TOKEN), `Bearer ${PASSWORD}`],
  ])('%s is refused', async (header) => {
    expect((await ask(both, header)).status).toBe(401);
  });

  describe('after many wrong passwords', () => {
    function open() {
      const { log, tail } = withTail(silentLog);
      let clock = 0;
      const waits: (() => void)[] = [];
      const wait = () => new Promise<void>((resolve) => void waits.push(resolve));
      const settings = { user: 'lifeboat', password: PASSWORD, token: TOKEN };
      const auth = createAuth(settings, { log, clock: () => clock, wait });
      const app = new Hono().use(auth).get('/', (context) => context.text('in'));
      const send = async (remoteAddress: string, authorization: string) =>
        (await app.request('/', { headers: { authorization } }, { incoming: { socket: { remoteAddress } } })).status;
      const guess = (address: string, password = 'wrong') => send(address, basic('lifeboat', password));
      const end = async () => {
        // Requests reach the wait after some turns of the queue of promises.
        await new Promise((resolve) => setImmediate(resolve));
        for (const done of waits.splice(0)) done();
      };
      return { send, guess, end, waits, tail, app, pass: (ms: number) => (clock += ms) };
    }

    test('right credentials still pass, from the same address too', async () => {
      const { send, guess, end, waits, tail, app, pass } = open();
      for (let i = 0; i < 20; i++) expect(await guess('10.0.0.9')).toBe(401);
      // A wrong one every three seconds, as from another client behind the same proxy.
      for (let i = 0; i < 50; i++, pass(3000)) {
        expect(await send('10.0.0.9', `Bearer ${TOKEN}`)).toBe(200);
        const both = [guess('10.0.0.9'), guess('10.0.0.9', PASSWORD)];
        await end();
        expect(await Promise.all(both)).toEqual([401, 200]);
      }
      expect(waits).toEqual([]);
      expect(tail().filter((line) => line.includes('many wrong passwords'))).toHaveLength(1);
      expect(await guess('10.0.0.1', PASSWORD)).toBe(200);
      // Requests without credentials are no guesses: browsers begin with one.
      for (let i = 0; i < 50; i++) expect((await app.request('/')).status).toBe(401);
      pass(120_000);
      expect(await guess('10.0.0.9', PASSWORD)).toBe(200);
    });

    test('each check takes a second, and few run at a time', async () => {
      const { send, guess, end } = open();
      for (let i = 0; i < 20; i++) await guess('10.0.0.9');
      const slow = Array.from({ length: 10 }, () => guess('10.0.0.9'));
      await new Promise((resolve) => setImmediate(resolve));
      expect(await guess('10.0.0.9')).toBe(429);
      expect(await send('10.0.0.9', `Bearer ${TOKEN}`)).toBe(200);
      await end();
      expect(new Set(await Promise.all(slow))).toEqual(new Set([401]));
    });

    test('the addresses of one network count together, and so do all networks', async () => {
      const { guess, waits, end } = open();
      for (let i = 0; i < 20; i++) await guess(`2001:db8:0:7::${i}`);
      const slow = guess('2001:db8:0:7:ffff::1', PASSWORD);
      await new Promise((resolve) => setImmediate(resolve));
      expect(waits).toHaveLength(1);
      await end();
      expect(await slow).toBe(200);
      for (let i = 0; i < 180; i++) await guess(`2001:db8:1:${i.toString(16)}::1`);
      const other = guess('192.0.2.1', PASSWORD);
      await new Promise((resolve) => setImmediate(resolve));
      expect(waits).toHaveLength(1);
      await end();
      expect(await other).toBe(200);
    });
  });

  test.each([
    ['10.0.0.9', '10.0.0.9'],
    ['::ffff:10.0.0.9', '10.0.0.9'],
    ['::1', '0:0:0:0::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:0DB8:0:7:1:2:3:4', '2001:db8:0:7::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['unknown', 'unknown'],
  ])('the network of %s', (address, network) => {
    expect(networkOf(address)).toBe(network);
  });

  test('what is not set is not accepted', async () => {
    expect((await ask({ http: { ...http, token: TOKEN } }, basic('lifeboat', 'undefined'))).status).toBe(401);
    expect((await ask({ http: { ...http, password: PASSWORD } }, 'Bearer undefined')).status).toBe(401);
    expect((await ask({ http }, undefined)).status).toBe(200);
  });

  test('the health check needs none, and names no place', async () => {
    const response = await ask(both, undefined, '/healthz');
    expect(response.status).toBe(200);
    expect(await response.text()).not.toMatch(/backups|acme|shop/);
  });
});

describe('without credentials, a name that a stranger can point here', () => {
  const at = async (host: string, options: Parameters<typeof serve>[0] = { http }, path = '/') =>
    (await serve(options).request(`http://${host}${path}`, { headers: { authorization: `Bearer ${TOKEN}` } })).status;

  test.each(['evil.example.com', 'evil.example.com:8080', '127.0.0.1.nip.io', 'lifeboat.', 'localhost.evil.org'])(
    '%s is refused',
    async (host) => {
      for (const path of ['/', '/metrics', '/api/status']) expect(await at(host, { http }, path)).toBe(421);
      expect(await at(host, { http }, '/healthz')).toBe(200);
      expect(await at(host, { http: { ...http, token: TOKEN } })).toBe(200);
    },
  );

  test.each(['localhost:8080', '127.0.0.1:8080', '[::1]:8080', '10.0.0.5', 'lifeboat:8080', 'nas.lan', 'a.b.internal'])(
    '%s is served',
    async (host) => {
      expect(await at(host)).toBe(200);
    },
  );
});

describe('every response', () => {
  const paths = ['/', '/metrics', '/healthz', '/api/status', '/api/nothing', '/nothing', '/snapshots', '/retention'];

  test.each(paths)('%s has the security headers', async (path) => {
    const { headers } = await ask({}, undefined, path);
    const policy = headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    expect(policy).toContain("frame-ancestors 'none'");
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('referrer-policy')).toBe('no-referrer');
    expect(headers.get('cache-control')).toBe('no-store');
  });

  test.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])('refuses %s', async (method) => {
    const response = await serve().request('/', { method });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('GET, HEAD');
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
  });

  test('HEAD has no body', async () => {
    const response = await serve().request('/', { method: 'HEAD' });
    expect(response.status).toBe(200);
    expect(await response.text()).toBe('');
  });
});

describe('secrets', () => {
  afterEach(forgetSecrets);

  test.each(['/', '/metrics', '/api/status', '/snapshots', '/retention', '/api/retention'])(
    '%s hides them, escaped or not',
    async (path) => {
      const secret = registerSecret(`p&"<'w-canary`);
      const facts = makeFacts({
        project: `shop ${secret}`,
        destination: `/backups/${secret}`,
        copies: [{ name: `s3://${secret}/x`, complete: '2026-11-28T02:01:30.000Z' }],
      });
      facts.overview.sources = facts.overview.sources.map((source) => ({
        ...source,
        name: `${source.name} ${secret}`,
      }));
      const text = await (await ask({ facts, over: { project: `shop ${secret}` } }, undefined, path)).text();
      expect(text).not.toContain('w-canary');
    },
  );
});

describe('errors', () => {
  test('an unexpected one shows no details', async () => {
    const facts = makeFacts();
    Object.defineProperty(facts, 'overview', {
      get: () => {
        throw new Error('/etc/shadow at line 7');
      },
    });
    const response = await ask({ facts });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('shadow');
  });

  test('a page or document that there is not', async () => {
    expect((await ask({}, undefined, '/snapshots/20200101T000000Z-000000')).status).toBe(404);
    const response = await ask({}, undefined, '/api/snapshots/20200101T000000Z-000000');
    expect([response.status, await response.json()]).toEqual([
      404,
      { format: 1, error: { code: 'SNAPSHOT_UNKNOWN', message: 'there is no snapshot 20200101T000000Z-000000' } },
    ]);
  });
});
