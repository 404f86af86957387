import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { drill } from '../../src/drill/drill.ts';
import { readDrills } from '../../src/drill/evidence.ts';
import { runSmokeTests } from '../../src/drill/stack-drill.ts';
import { DrillBench } from './drill-bench.ts';

let bench: DrillBench;
beforeEach(() => {
  bench = new DrillBench();
});
afterEach(() => bench.remove());

const statuses = ({ results }: { results: readonly { source: string; status: string }[] }) =>
  Object.fromEntries(results.map(({ source, status }) => [source, status]));

describe('a drill that ends early', () => {
  test('names the sources that it did not come to, also in its evidence', async () => {
    bench.sources = ['web.media', 'web.other'];
    const signal = AbortSignal.abort(new LifeboatError('INTERRUPTED', 'the next backup is due'));
    const report = await drill(bench.deps(), bench.request({ signal }));
    expect(statuses(report)).toEqual({ 'web.media': 'interrupted', 'web.other': 'interrupted' });
    expect(report).toMatchObject({ status: 'interrupted', error: { code: 'INTERRUPTED' } });
    const [stored] = (await readDrills(await bench.main())).drills;
    expect(stored && statuses(stored.report)).toEqual(statuses(report));
  });

  test('has failed if its time was up, and names what it did not come to', async () => {
    bench.sources = ['web.media'];
    const signal = AbortSignal.abort(new LifeboatError('DRILL_FAILED', 'the drill took longer than 12h'));
    const report = await drill(bench.deps(), bench.request({ signal }));
    expect(statuses(report)).toEqual({ 'web.media': 'interrupted' });
    expect(report).toMatchObject({ status: 'failed', error: { code: 'DRILL_FAILED' } });
  });
});

describe('a drill of the whole stack', () => {
  const run = () => ({
    ...{ id: '20261120T060000Z-4f1c9a', journal: {} as never, ups: [], unproven: [] as string[] },
    ...{ signal: new AbortController().signal, say: () => undefined },
  });

  test('proves only a part without a smoke test', async () => {
    const stack = run();
    const result = await runSmokeTests(bench.deps(), [], stack);
    expect(result).toMatchObject({ status: 'unproven', checks: [] });
    expect(result.summary).toBeUndefined();
    expect(stack.unproven).toEqual([expect.stringMatching(/^no smoke test was run: /)]);
  });

  test('says nothing of tests that passed if one failed', async () => {
    const hook = { argv: ['true'] } as never;
    const smoke = { service: 'web', containerId: 'c', containerName: 'shop-web-1', hook };
    const result = await runSmokeTests(bench.deps(), [smoke], run());
    expect(result).toMatchObject({ status: 'failed', checks: [{ of: 'web', result: 'failed' }] });
    expect(result.summary).toBeUndefined();
  });
});
