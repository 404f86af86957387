import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { runTreeJob, type StoreJob, treeJobMain } from '../../src/trees/job.ts';
import { createBench } from '../store/helpers.ts';

test('the first backup of a tree shows its size, a later one measures nothing', async () => {
  const bench = createBench();
  try {
    for (const name of ['a', 'b']) writeFileSync(join(bench.tree, name), name.repeat(500));
    writeFileSync(join(bench.tree, 'left-out'), 'x');
    const job: StoreJob = {
      ...{ kind: 'store', root: bench.tree, include: [], exclude: ['left-out'], project: 'shop', source: 'web.media' },
      ...{ indexPath: bench.index, spool: bench.spool, sqlite: true, journal: join(bench.spool, 'journal') },
    };
    const run = async (one: StoreJob) => {
      const totals = new Set<number | undefined>();
      const { destination } = bench;
      await runTreeJob(one, { destination, keys: {} }, new AbortController().signal, ({ total }) => totals.add(total));
      return [...totals];
    };
    expect(await run(job)).toEqual([1000]);
    const previous = { indexPath: bench.index, packs: [] };
    expect(await run({ ...job, indexPath: `${bench.index}-2`, previous })).toEqual([undefined]);
    // The dump of a database has another size each time.
    expect(await run({ ...job, indexPath: `${bench.index}-3`, previous, sqlite: false })).toEqual([1000]);
  } finally {
    bench.remove();
  }
});

test('a helper sends heartbeats while it works, which do not count as progress, and its last line is the result', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  try {
    const lines: { type: string }[] = [];
    const stdin = new PassThrough();
    const write = (line: string) => lines.push(JSON.parse(line) as { type: string });
    const open = () => {
      throw new Error('no destination');
    };
    const ended = treeJobMain(stdin, write, open, new AbortController().signal);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(lines.length).toBeGreaterThanOrEqual(2);
    expect(new Set(lines.map(({ type }) => type))).toEqual(new Set(['alive']));
    stdin.end('{"job": {}, "settings": {}}');
    await ended;
    const said = lines.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect({ last: lines.at(-1)?.type, said: lines.length }).toEqual({ last: 'error', said });
  } finally {
    vi.useRealTimers();
  }
});
