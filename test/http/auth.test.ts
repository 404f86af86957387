import { Hono } from 'hono';
import { afterEach, describe, expect, test } from 'vitest';
import { silentLog, withTail } from '../../src/base/log.ts';
import { forgetSecrets, registerSecret } from '../../src/base/redact.ts';
import { createAuth } from '../../src/http/auth.ts';
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

  test('an address that guesses has to wait, and the log says so once', async () => {
    const { log, tail } = withTail(silentLog);
    let clock = 0;
    const auth = createAuth({ user: 'lifeboat', password: PASSWORD }, { log, clock: () => clock });
    const app = new Hono().use(auth).get('/', (context) => context.text('in'));
    const from = async (remoteAddress: string, password: string) => {
      const env = { incoming: { socket: { remoteAddress } } };
      const headers = { authorization: basic('lifeboat', password) };
      const { status, headers: found } = await app.request('/', { headers }, env);
      return status === 429 ? `429, ${found.get('retry-after')} s` : status;
    };
    for (let i = 0; i < 20; i++) expect(await from('10.0.0.9', `guess ${i}`)).toBe(401);
    // Not even the right password: otherwise guesses would go on.
    expect(await from('10.0.0.9', PASSWORD)).toBe('429, 3 s');
    expect(await from('10.0.0.1', PASSWORD)).toBe(200);
    clock += 3000;
    expect(await from('10.0.0.9', 'one more')).toBe(401);
    expect(await from('10.0.0.9', 'one more')).toBe('429, 3 s');
    clock += 60_000;
    expect(await from('10.0.0.9', PASSWORD)).toBe(200);
    expect(tail().filter((line) => line.includes('many wrong passwords'))).toHaveLength(1);
    // Requests without credentials are no guesses: browsers begin with one.
    for (let i = 0; i < 50; i++) expect((await app.request('/')).status).toBe(401);
    expect(await from('unknown', PASSWORD)).toBe(200);
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
      { error: { code: 'SNAPSHOT_UNKNOWN', message: 'there is no snapshot 20200101T000000Z-000000' } },
    ]);
  });
});
