import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { watchHistory } from '../../src/backup/base-history.ts';
import { createCapturer } from '../../src/backup/capture.ts';
import type { RunContext } from '../../src/backup/context.ts';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { PlannedSource } from '../../src/plan/model.ts';
import { openState } from '../../src/run/state.ts';
import type { CapturedTree, Source } from '../../src/sources/source.ts';
import { emptyResult } from '../../src/store/content/stored-tree.ts';
import { SYSTEM, WalBench } from '../store/wal/bench.ts';

const watch = ({ repository }: Pick<WalBench, 'repository'>) =>
  watchHistory({ repository, log: silentLog, signal: new AbortController().signal }, 'db.postgres');
const beginAnew = async (bench: WalBench) => {
  const writer = await bench.open();
  await writer.beginAnew({ at: bench.at, timeline: 1, to: '0/300000', why: 'it went back' });
};

test('a base backup belongs to the history that the server writes while it is made, whatever the clock says', async () => {
  const bench = new WalBench();
  const first = await watch(bench);
  await bench.store(1, 2);
  expect(await first(SYSTEM)).toBe(1);
  bench.at = '2026-11-20T01:00:00.000Z';
  await beginAnew(bench);
  const second = await watch(bench);
  await bench.storeAs('new', 3, 4);
  expect(await second(SYSTEM)).toBe(2);
  // Another server begins with its first history.
  expect(await second('1')).toBe(1);
});

test('a base backup fails if another history begins meanwhile: by its time, it would seem to be of that one', async () => {
  const bench = new WalBench();
  await bench.store(1, 2);
  const eraOf = await watch(bench);
  await beginAnew(bench);
  await expect(eraOf(SYSTEM)).rejects.toMatchObject({ code: 'PG_BASE_FAILED' });
});

test('the history is unknown if the newest page cannot be read', async () => {
  const bench = new WalBench();
  await bench.store(1, 2);
  const eraOf = await watch(bench);
  for (const key of bench.objects.keys()) if (key.includes('/log/')) bench.objects.set(key, 'damaged');
  expect(await eraOf(SYSTEM)).toBeUndefined();
});

test('a destination that fails does not fail the base backup', async () => {
  const bench = new WalBench();
  const destination = {
    ...bench.destination,
    async *list() {
      yield* [];
      throw new LifeboatError('DEST_UNREACHABLE', 'no answer');
    },
  };
  const eraOf = await watch({ repository: { ...bench.repository, destination } });
  expect(await eraOf(SYSTEM)).toBeUndefined();
});

test('the snapshot names the history of a base backup', async () => {
  const bench = new WalBench();
  await bench.store(1, 2);
  await beginAnew(bench);
  const spool = await mkdtemp(path.join(tmpdir(), 'base-'));
  const place = { systemId: SYSTEM, timeline: 1, startLsn: '0/300028', stopLsn: '0/301000' };
  const tree: CapturedTree = {
    ...{ root: 'the base backup of db', reach: { kind: 'here' }, include: [], exclude: [], warnings: [] },
    ...{ facts: {}, summary: '', base: { ...place, startTime: bench.at, stopTime: bench.at } },
  };
  const source: Source = { name: 'db.postgres.base', kind: 'base', capture: (_, store) => store(tree) };
  const ref = { key: 'shop/x', size: 1, sha256: '0'.repeat(64) };
  const repository = {
    ...bench.repository,
    ...{ putFacts: async () => ref, putIndex: async () => ref, putPacks: async () => undefined },
  };
  const context = {
    ...{ repository, snapshots: [], journal: { file: path.join(spool, 'journal') }, log: silentLog },
    ...{ run: { id: 'r1', trigger: 'schedule', project: 'shop' }, signal: new AbortController().signal },
  } as unknown as RunContext;
  const capturer = createCapturer(
    {
      ...{ state: openState(path.join(spool, 'state')), spool, makeSource: () => source },
      treeStore: {
        async store({ indexPath }: { indexPath: string }) {
          await writeFile(indexPath, '');
          return { ...emptyResult(), files: 1 };
        },
      },
      zone: 'Europe/Berlin',
      clear: async () => undefined,
    } as unknown as Parameters<typeof createCapturer>[0],
    context,
  );
  try {
    const planned = {
      kind: 'base',
      name: 'db.postgres.base',
      server: 'db.postgres',
      keep: { last: 1 },
      schedule: '0 4 * * 0',
    } as unknown as PlannedSource;
    const { entry } = await capturer.capture(planned, []);
    expect(entry).toMatchObject({ status: 'ok', base: { ...place, era: 2 } });
    expect(entry.schedule).toEqual({ cron: '0 4 * * 0', zone: 'Europe/Berlin' });
  } finally {
    await rm(spool, { recursive: true });
  }
});
