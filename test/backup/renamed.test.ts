import { afterEach, expect, test } from 'vitest';
import type { Plan } from '../../src/plan/model.ts';
import { makeResult } from '../report/fixtures.ts';
import { RunBench } from '../run/run-bench.ts';

const bench = new RunBench();
afterEach(() => bench.remove());

test('a run reports which source has the volume of one that is gone', async () => {
  const mount = { type: 'volume', name: 'shop_media', source: '/v', destination: '/data', writable: true };
  const run = (name: string) => {
    const sources = [{ name, kind: 'volume', schedule: '0 3 * * *', mount, stop: [], keep: { last: 3 } }];
    const plan = { project: 'shop', problems: [], sources } as unknown as Plan;
    return bench.run('a', { plan: async () => plan, fails: makeResult({ name, bytes: 1, newBytes: 1 }) });
  };
  expect(await run('web.media')).toMatchObject({ status: 'ok' });
  bench.later(86_400_000);
  const { status, results } = await run('app.media');
  expect(status).toBe('partial');
  expect(results.find(({ name }) => name === 'web.media')?.error).toMatchObject({
    code: 'SOURCE_VANISHED',
    message: expect.stringContaining('app.media now has its data (volume shop_media)'),
    hint: expect.stringContaining('lifeboat.name: web'),
  });
});
