import { expect, test, vi } from 'vitest';
import { LifeboatError } from '../../../../../src/base/errors.ts';
import { answering, type ProbedServer, whileAnswering } from '../../../../../src/sources/postgres/server/answering.ts';
import type { Session } from '../../../../../src/sources/postgres/server/session.ts';
import { LONG_WAIT } from '../../../../harness/wait.ts';

/** A server that lets an answer to a query wait, and says for how long it answers others. */
const server = (probe: () => Promise<void>): ProbedServer => ({ container: 'shop-db-1', timeoutMs: 60, probe });
const forEver = () => new Promise<never>(() => undefined);
const session = (query: () => Promise<unknown>): Session =>
  ({ database: 'shop', versionNumber: 170000, all: query, one: query, run: query }) as unknown as Session;

test.each(['all', 'one', 'run'] as const)(
  '%s on a server that answers nobody ends, and gives up its connection',
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

test('a server that cannot be reached any more is given up too', async () => {
  const refused = async () => {
    throw new LifeboatError('PG_UNREACHABLE', 'no answer');
  };
  await expect(answering(session(forEver), server(refused), () => undefined).run('SELECT 1')).rejects.toMatchObject({
    code: 'PG_STALLED',
  });
});

test('a long query may take its time while the server answers others, and a short one asks nothing', async () => {
  let asked = 0;
  // Wide enough for a machine that is busy with other things; it is asked four times in that.
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

test('what a query itself fails with is not changed, and ends no connection', async () => {
  const ended: unknown[] = [];
  const failing = session(async () => {
    throw new LifeboatError('PG_QUERY', 'a query failed');
  });
  const asked = answering(failing, server(forEver), (reason) => ended.push(reason));
  await expect(asked.run('SELECT')).rejects.toMatchObject({ code: 'PG_QUERY' });
  expect(ended).toEqual([]);
});

test('a program is ended by its signal when the server answers nobody, and with the run', async () => {
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
