import { expect, test } from 'vitest';
import { watchHistory } from '../../src/backup/base-history.ts';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
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

test('the history is unknown if another one begins meanwhile', async () => {
  const bench = new WalBench();
  await bench.store(1, 2);
  const eraOf = await watch(bench);
  await beginAnew(bench);
  expect(await eraOf(SYSTEM)).toBeUndefined();
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
