import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLocalDestination } from '../../../src/destinations/local.ts';
import { openState } from '../../../src/run/state.ts';
import { endOfChain, refuseLostEnd } from '../../../src/store/repository/chain.ts';
import type { Repository, Snapshot, SnapshotList } from '../../../src/store/repository/repository.ts';
import { putTombstone } from '../../../src/store/repository/tombstones.ts';
import { scratchBase } from '../helpers.ts';

let directory: string;
let repository: Repository;
beforeEach(() => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-end-'));
  const destination = createLocalDestination({ root: directory });
  repository = {
    destination,
    project: 'shop',
    signing: { active: false, sign: (_: string, text: string) => text },
  } as unknown as Repository;
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const idOf = (sequence: number) => `2026112${sequence}T030000Z-00000${sequence}`;

function snapshot(sequence: number): Snapshot {
  const manifest = { id: idOf(sequence), sequence, previous: null, project: 'shop', sources: {} };
  return { manifest, hash: 'a'.repeat(64), unsigned: false } as unknown as Snapshot;
}
const list = (...sequences: number[]): Pick<SnapshotList, 'snapshots' | 'damaged'> => ({
  snapshots: sequences.map(snapshot),
  damaged: [],
});
const seen = { id: idOf(5), sequence: 5 };
const refusing = (there: Pick<SnapshotList, 'snapshots' | 'damaged'>) => refuseLostEnd(repository, there, seen);

test('a chain that ends before the newest snapshot that was seen is refused, also an empty one', async () => {
  for (const there of [list(), list(1, 2), list(4, 3)]) {
    await expect(refusing(there)).rejects.toMatchObject({
      code: 'CHAIN_BROKEN',
      hint: expect.stringContaining('accept'),
    });
  }
});

test('a chain that goes on, or whose end is known to be unreadable or removed, is not', async () => {
  await refusing(list(5, 1));
  // Another agent has stored more, and its retention took what this one had seen.
  await refusing(list(9, 7));
  await refusing({ ...list(4), damaged: [{ id: seen.id, error: new Error() }] as unknown as SnapshotList['damaged'] });
  await refuseLostEnd(repository, list(), undefined);
  await putTombstone(repository, snapshot(5), { removed: '2026-11-27T03:00:00Z', why: 'prune' });
  await refusing(list(4));
});

test('the end is the last in the chain, whatever the dates say', () => {
  expect(endOfChain([])).toBeUndefined();
  expect(endOfChain([snapshot(2), snapshot(6), snapshot(3)])).toEqual({ id: idOf(6), sequence: 6 });
});

test('the state remembers the end of the chain of one repository only', async () => {
  const state = openState(join(directory, 'state'));
  const known = (id: string) => ({
    info: { format: 1 as const, id, created: '2026-11-20T03:00:00Z' },
    name: '/backups',
  });
  expect(await state.chainEnd('shop')).toBeUndefined();
  await state.saveRepository(known('one'));
  await state.saveChainEnd('shop', seen);
  expect(await state.chainEnd('shop')).toEqual(seen);
  // A project that has another name now has a chain of its own.
  expect(await state.chainEnd('market')).toBeUndefined();
  await state.saveRepository(known('two'));
  expect(await state.chainEnd('shop')).toBeUndefined();
  await state.saveChainEnd('shop', seen);
  await state.saveChainEnd('shop', undefined);
  expect(await state.chainEnd('shop')).toBeUndefined();
});
