import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { makeFacts, serve } from './fixtures.ts';

async function health(options: Parameters<typeof serve>[0] = {}) {
  const response = await serve(options).request('/healthz');
  const { status, checks } = (await response.json()) as {
    status: string;
    checks: { name: string; ok: boolean; why?: string }[];
  };
  return {
    code: response.status,
    status,
    bad: checks.filter(({ ok }) => !ok).map(({ name, why }) => `${name}: ${why}`),
  };
}

test('all is well', async () => {
  expect(await health()).toEqual({ code: 200, status: 'ok', bad: [] });
});

test('a scheduler that hangs', async () => {
  expect((await health({ over: { sinceTick: () => 149_000 } })).code).toBe(200);
  expect(await health({ over: { sinceTick: () => 151_000 } })).toEqual({
    ...{ code: 503, status: 'failing', bad: ['scheduler: it has not looked for due runs for minutes'] },
  });
});

test('an engine that does not answer', async () => {
  const ping = async () => {
    throw new LifeboatError('ENGINE_UNREACHABLE', 'connect ENOENT /var/run/docker.sock');
  };
  expect((await health({ over: { engine: { ping } } })).bad).toEqual(['engine: ENGINE_UNREACHABLE']);
});

test('a destination that could not be read', async () => {
  const problem = new LifeboatError('DEST_NOT_MOUNTED', '/secret/place is not mounted');
  const facts = makeFacts({ found: { manifests: [], damaged: [], objects: [], problem } });
  expect(await health({ facts })).toEqual({ code: 503, status: 'failing', bad: ['destination: DEST_NOT_MOUNTED'] });
});

test('many questions make one ping', async () => {
  let pings = 0;
  const ping = async () => {
    pings += 1;
  };
  const app = serve({ over: { engine: { ping } } });
  for (let i = 0; i < 5; i++) await app.request('/healthz');
  expect(pings).toBe(1);
});

test('facts that are old say nothing about the destination', async () => {
  expect((await health({ source: { age: () => 9 * 60_000 } })).code).toBe(200);
  expect((await health({ source: { age: () => 11 * 60_000 } })).bad).toEqual([
    'destination: no look at it has succeeded for minutes',
  ]);
  const none = { peek: () => undefined, get: async () => Promise.reject(new Error('down')) };
  expect((await health({ source: { ...none, age: () => Number.POSITIVE_INFINITY } })).code).toBe(503);
});

test('a slow look at the destination holds up no answer if there are facts', async () => {
  const start = performance.now();
  expect((await health({ source: { get: () => new Promise(() => undefined) } })).code).toBe(200);
  expect(performance.now() - start).toBeLessThan(1000);
});
