import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Captured } from '../../src/backup/outcome.ts';
import type { ObjectRef } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import { makeFailure, makeResult } from '../report/fixtures.ts';
import { RunBench } from '../run/run-bench.ts';

let bench: RunBench;
beforeEach(() => {
  bench = new RunBench();
});
afterEach(() => bench.remove());

/** Packs that the sources of a run reuse, and the error with which a source failed. */
const reusing = (packs: Record<string, ObjectRef[]>, failed: string[]) => () => ({
  capture: async ({ name }: { name: string }) => captured(name, packs[name] ?? []),
  failed: async ({ name }: { name: string }, error: unknown) => {
    failed.push(`${name}: ${(error as Error).message}`);
    const report = makeFailure({ name, kind: 'files' });
    return { report, entry: { ...report, skipped: {} } } as unknown as Captured;
  },
});

async function captured(name: string, packs: ObjectRef[]): Promise<Captured> {
  const { fell: _, ...entry } = makeResult({ name, kind: 'files', bytes: 1, newBytes: 1 });
  const refs = packs.map((pack, i) => ({ ...pack, id: String(i).padStart(32, '0'), plainSize: 1 }));
  const list = await (await bench.open()).putPacks({ id: '20261119T030000Z-aaaaaa', source: name, packs: refs });
  return { report: { ...entry }, entry: { ...entry, ...(list ? { packs: list } : {}), skipped: {} } };
}

test('a pack that the destination lost fails the source that reuses it, not the others; the next run stores it again', async () => {
  await bench.open();
  const key = (name: string) => `shop/packs/${name}/00/${'0'.repeat(32)}.zip`;
  const put = async (name: string) => ({
    key: key(name),
    ...(await bench.destination().put(key(name), streamOf(name))),
  });
  const packs = { a: [await put('a')], b: [await put('b')] };
  const other = {
    key: `shop/packs/b/00/${'1'.repeat(32)}.zip`,
    ...(await bench.destination().put(`shop/packs/b/00/${'1'.repeat(32)}.zip`, streamOf('b'))),
  };
  const sources = ['a', 'b'].map((name) => ({ name, kind: 'files', schedule: '0 3 * * *', root: '/config' }));
  const plan = async () => ({ ...bench.plan, sources: sources as unknown as typeof bench.plan.sources });
  const failed: string[] = [];
  await bench.destination().delete(key('b'));
  const report = await bench.run('a', { plan, capturer: reusing({ ...packs, b: [...packs.b, other] }, failed) });
  expect(failed).toEqual([`b: 1 object of b is missing at ${bench.destination().name}, or incomplete there`]);
  expect(report).toMatchObject({
    status: 'partial',
    results: [
      { name: 'a', status: 'ok' },
      { name: 'b', status: 'failed' },
    ],
  });
  expect(report.snapshot).toBe(report.id);
  expect(await bench.state('a').damaged()).toEqual([key('b')]);
});
