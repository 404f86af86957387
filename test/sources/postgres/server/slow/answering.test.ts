import { expect, test, vi } from 'vitest';
import { LifeboatError } from '../../../../../src/base/errors.ts';
import { answering, type ProbedServer, whileAnswering } from '../../../../../src/sources/postgres/server/answering.ts';
import type { Session } from '../../../../../src/sources/postgres/server/session.ts';
import { LONG_WAIT } from '../../../../harness/wait.ts';

/** A server that delays the answer to a query, but responds to probes for some time. */
const server = (probe: () => Promise<void>): ProbedServer => ({ container: 'shop-db-1', timeoutMs: 60, probe });
const forEver = () => new Promise<never>(() => undefined);
const session = (query: () => Promise<unknown>): Session =>
  ({ database: 'shop', versionNumber: 170000, all: query, one: query, run: query }) as unknown as Session;

test.each(['all', 'one', 'run'] as const)(
  '%s on a server that no longer responds ends, and closes its connection',
  async (kind) => {
    const ended: unknown[] = [];
    const paused = answering(session(forEver), server(forEver), (reason) => ended.push(reason));
    await expect(paused[kind]('SELECT 1')).rejects.toMatchObject({
      code: 'PG_STALLED',
      message: expect.stringContaining('database container shop-db-1 made no progress'),
    });
    expect(ended).toMatchObject([{ code: 'PG_STALLED' }]);
  },
);

test('the connection to a server that can no longer be reached is closed too', async () => {
  const refused = async () => {
    throw new LifeboatError('PG_UNREACHABLE', 'no answer');
  };
  await expect(answering(session(forEver), server(refused), () => undefined).run('SELECT 1')).rejects.toMatchObject({
    code: 'PG_STALLED',
  });
});

test('a long query may take any time while the server responds to probes, and a short one causes no probe', async () => {
  let asked = 0;
  // Long enough for a busy machine. Four probes happen in this time.
  const busy = { ...server(async () => void asked++), timeoutMs: 5000 };
  const query = (end: () => Promise<void>) =>
    answering(
      session(async () => {
        await end();
        return [{ n: 1 }];
      }),
      busy,
      () => undefined,
    ).all('SELECT 1');
  expect(await query(async () => undefined)).toEqual([{ n: 1 }]);
  expect(asked).toBe(0);
  const from = performance.now();
  expect(await query(() => vi.waitFor(() => expect(asked).toBeGreaterThanOrEqual(5), LONG_WAIT))).toEqual([{ n: 1 }]);
  expect(performance.now() - from).toBeGreaterThan(busy.timeoutMs);
});

test('the error of a failed query stays unchanged, and its connection stays open', async () => {
  const ended: unknown[] = [];
  const failing = session(async () => {
    throw new LifeboatError('PG_QUERY', 'a query failed');
  });
  const asked = answering(failing, server(forEver), (reason) => ended.push(reason));
  await expect(asked.run('SELECT')).rejects.toMatchObject({ code: 'PG_QUERY' });
  expect(ended).toEqual([]);
});

test('the signal of a program aborts when the server no longer responds, and when the run ends', async () => {
  const untilAborted = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  await expect(whileAnswering(server(forEver), new AbortController().signal, untilAborted)).rejects.toMatchObject({
    code: 'PG_STALLED',
  });
  const stop = new AbortController();
  const ran = whileAnswering(server(forEver), stop.signal, untilAborted);
  stop.abort(new LifeboatError('INTERRUPTED', 'asked to stop'));
  await expect(ran).rejects.toMatchObject({ code: 'INTERRUPTED' });
});
