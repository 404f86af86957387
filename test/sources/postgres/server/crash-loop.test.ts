import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { ContainerDetails } from '../../../../src/docker/answers.ts';
import { explainCrashLoop, isLooping } from '../../../../src/sources/postgres/server/restarted.ts';

const NOW = Date.parse('2026-11-20T12:00:00Z');
const at = (seconds: number) => new Date(NOW + seconds * 1000).toISOString();

const details = (more: Partial<ContainerDetails>) =>
  ({
    ...{ name: 'shop-db-1', running: true, state: 'restarting', restarts: 5, exitCode: 1, oomKilled: false },
    ...{ startedAt: at(-10), finishedAt: at(-9) },
    ...more,
  }) as ContainerDetails;

describe('a container restarts repeatedly', () => {
  test.each([
    ['it waits for its next start after a short run', {}, true],
    ['it was just started again', { state: 'running', exitCode: 0 }, true],
    ['it waits after a run of an hour', { startedAt: at(-3600), finishedAt: at(-1) }, false],
    ['it has run for an hour since', { state: 'running', startedAt: at(-3600), finishedAt: at(-3601) }, false],
    ['it was restarted once', { restarts: 1 }, false],
    ['it stopped permanently after short runs', { running: false, state: 'exited' }, false],
  ])('%s: %s', (_, more, looping) => {
    expect(isLooping(details(more), NOW)).toBe(looping);
  });
});

describe('an error of such a container', () => {
  const refused = new LifeboatError('HELPER_FAILED', 'helper "postgres" could not be started');
  const recent = { startedAt: new Date(Date.now() - 2000).toISOString(), finishedAt: new Date().toISOString() };

  const explain = (error: unknown, more: Partial<ContainerDetails> = {}, startedAt?: string) =>
    explainCrashLoop(error, {
      id: 'c1',
      engine: { inspectContainer: async () => details({ ...recent, ...more }) },
      ...(startedAt === undefined ? {} : { startedAt }),
    });

  test.each([
    [{}, '(5 times so far, last with exit status 1)'],
    [{ state: 'running', exitCode: 0 }, '(5 times so far)'],
    [{ oomKilled: true, exitCode: 137 }, '(5 times so far, and ran out of memory)'],
  ])('has the details from the engine: %o', async (more, facts) => {
    const error = await explain(refused, more);
    expect(error).toMatchObject({
      code: 'PG_UNREACHABLE',
      message: `database container shop-db-1 restarts again and again ${facts}`,
      hint: expect.stringContaining('docker logs --tail 50 shop-db-1'),
      cause: refused,
    });
    expect(await explain(error)).toBe(error);
  });

  const answered = Object.assign(new Error('no such database'), { code: '3D000', severity: 'FATAL' });

  test.each([
    ['the server refused the password', new LifeboatError('PG_AUTH', 'refused')],
    ['the container runs', refused, { state: 'running', startedAt: at(-86_400) }],
    ['it ran for an hour before', refused, {}, new Date(Date.now() - 3_600_000).toISOString()],
    ['the server answered', new LifeboatError('PG_QUERY', 'failed', { cause: answered })],
  ])('stays unchanged if %s', async (_, error, more = {}, startedAt?) => {
    expect(await explain(error, more, startedAt)).toBe(error);
  });
});
