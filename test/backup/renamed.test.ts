import { afterEach, beforeEach, expect, test } from 'vitest';
import type { BackupDeps } from '../../src/backup/context.ts';
import type { Plan } from '../../src/plan/model.ts';
import { knownPlaces } from '../../src/run/remembered.ts';
import { makeResult } from '../report/fixtures.ts';
import { RunBench } from '../run/run-bench.ts';

let bench: RunBench;
beforeEach(() => {
  bench = new RunBench();
});
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
    message: expect.stringContaining('volume shop_media is now backed up as app.media'),
    hint: expect.stringContaining('lifeboat.name: web'),
  });
});

test('a run remembers the places of the sources that it stored, and of no others', async () => {
  const mount = { type: 'volume', source: '/v', destination: '/data', writable: true };
  const run = (volume: string, failed: string, request = {}) => {
    const sources = ['web.files', 'web.media'].map((name) => ({
      ...{ name, kind: 'volume', schedule: '0 3 * * *', stop: [], keep: { last: 3 } },
      mount: { ...mount, name: `${volume}_${name}` },
    }));
    const plan = { project: 'shop', problems: [], sources } as unknown as Plan;
    const capturer: BackupDeps['capturer'] = () => ({
      async capture({ name }) {
        const { fell: _, ...report } = makeResult({
          name,
          bytes: 1,
          newBytes: 1,
          ...(name === failed ? { status: 'failed' as const } : {}),
        });
        return { report, entry: { ...report, skipped: {} } };
      },
      failed: () => expect.fail('not asked for'),
    });
    bench.later(60_000);
    return bench.run('a', { plan: async () => plan, capturer, ...request });
  };
  const places = () => knownPlaces(bench.state('a').directory);
  const [files, media] = ['web.files', 'web.media'];
  expect(await run('one', '')).toMatchObject({ status: 'ok' });
  await run('two', files);
  expect(await places()).toEqual({ [files]: `volume one_${files}`, [media]: `volume two_${media}` });
  await run('three', '', { trigger: 'manual', request: { only: ({ name }: { name: string }) => name === files } });
  expect(await places()).toEqual({ [files]: `volume three_${files}`, [media]: `volume two_${media}` });
});
