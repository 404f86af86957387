import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunBench } from '../run/run-bench.ts';

let bench: RunBench;
beforeEach(async () => {
  bench = new RunBench();
  await bench.open();
});
afterEach(() => bench.remove());

test('a run removes what is cached of sources that no kept snapshot has', async () => {
  await bench.run('a');
  const state = bench.state('a');
  for (const source of ['config', 'gone']) {
    const file = path.join(bench.root, 'index');
    writeFileSync(file, 'lines');
    await state.cacheIndex(source, 'aa', file);
    await state.cacheFacts(source, 'bb', { source });
  }
  await bench.run('a');
  expect(await state.cachedFacts('config', 'bb')).toEqual({ source: 'config' });
  expect(await state.cachedFacts('gone', 'bb')).toBeUndefined();
  // The snapshot of this source has another index.
  expect(await state.cachedIndex('config', 'aa')).toBeUndefined();
  expect(await state.cachedIndex('gone', 'aa')).toBeUndefined();
});
