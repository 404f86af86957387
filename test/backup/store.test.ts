import { afterEach, beforeEach, expect, test } from 'vitest';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { RunBench } from '../run/run-bench.ts';

/** What a run stores and reports around its sources. */

let bench: RunBench;
beforeEach(async () => {
  bench = new RunBench();
  await bench.open();
});
afterEach(() => bench.remove());

test('only a run that later runs are compared with keeps its indexes', async () => {
  const kept: string[] = [];
  for (const trigger of ['schedule', 'manual', 'catch-up', 'safety', 'import'] as const) {
    const report = await bench.run('a', { trigger, keepIndex: async () => void kept.push(trigger) });
    expect(report.snapshot, trigger).toBe(report.id);
    bench.later(60_000);
  }
  // The index of a safety snapshot would replace the one that the next run needs and, without a key, cannot read again.
  expect(kept).toEqual(['schedule', 'manual', 'catch-up']);
});

test('the first backup under another project name warns, and later ones do not', async () => {
  expect((await bench.run('a')).problems).toEqual([]);
  const project = 'shop2';
  const repository = () => openRepository(bench.destination(), { project, create: true, keys: {} });
  const runs = [];
  for (let i = 0; i < 2; i++) {
    bench.later(60_000);
    runs.push(await bench.run('b', { project, repository }));
  }
  expect(runs.map(({ status }) => status)).toEqual(['ok', 'ok']);
  expect(runs[0]?.problems).toEqual([
    {
      severity: 'warning',
      code: 'PROJECT_NEW',
      subject: 'project',
      message: expect.stringContaining('also holds project shop'),
      hint: expect.stringMatching(/--from \S+ --project shop`/),
    },
  ]);
  expect(runs[1]?.problems).toEqual([]);
  // A safety snapshot is not what a project is known by.
  bench.later(60_000);
  const safety = await bench.run('c', {
    trigger: 'safety',
    project: 'shop3',
    repository: () => openRepository(bench.destination(), { project: 'shop3', create: true, keys: {} }),
  });
  expect(safety.problems).toEqual([]);
});
