import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Destination } from '../../../src/destinations/destination.ts';
import { createLocalDestination } from '../../../src/destinations/local.ts';
import { openState } from '../../../src/run/state.ts';
import type { Manifest } from '../../../src/store/objects/manifest.ts';
import { manifestKey } from '../../../src/store/objects/manifest.ts';
import { missingPlaces, nextPlace, readChain, resolveSnapshot } from '../../../src/store/repository/chain.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
import type { Snapshot } from '../../../src/store/repository/repository.ts';
import { placeOf, refuseLostEnd, rememberList, type SeenChain } from '../../../src/store/repository/seen-chain.ts';
import { removeSnapshot, tombstoneKey } from '../../../src/store/repository/tombstones.ts';
import { scratchBase } from '../helpers.ts';

const NOW = Date.parse('2026-11-29T00:00:00Z');

let directory: string;
let all: Snapshot[];
beforeEach(async () => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-end-'));
  all = [];
  for (let day = 1; day <= 5; day++) all.push(await commit(idOf(day)));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const idOf = (day: number) => `2026112${day}T030000Z-00000${day}`;
const open = (seen?: SeenChain, signingKeys: string[] = []) =>
  openRepository(createLocalDestination({ root: directory }), {
    ...{ project: 'shop', create: true, keys: {}, signingKeys },
    ...(seen ? { seen: async () => seen } : {}),
  });
const everything = () => all.map(placeOf);
const fileOf = (day: number) => join(directory, manifestKey('shop', idOf(day)));
const lose = (...days: number[]) => {
  for (const day of days) rmSync(fileOf(day));
};
const listed = async (seen: SeenChain, signingKeys: string[] = []) => {
  const { snapshots, damaged } = await (await open(seen, signingKeys)).snapshots();
  return [snapshots.length, damaged.map(({ id, error }) => `${id} ${error.code}`)];
};

async function commit(id: string, over: Partial<Manifest> = {}, signingKeys: string[] = []): Promise<Snapshot> {
  const repository = await open([], signingKeys);
  const time = '2026-11-21T03:00:00.000Z';
  return repository.commit({
    ...{ format: 1, id, project: 'shop', start: time, end: time, trigger: 'schedule', agentVersion: '0.1.0' },
    ...{ status: 'ok', sources: {}, ...(await nextPlace(repository, await repository.snapshots())) },
    ...over,
  });
}

test('a snapshot that was seen and is gone without a tombstone is damaged; the message has its sequence', async () => {
  lose(3);
  expect(await listed(everything())).toEqual([4, [`${idOf(3)} CHAIN_BROKEN`]]);
  const { damaged } = await (await open(everything())).snapshots();
  expect(damaged[0]?.error).toMatchObject({
    message: expect.stringContaining('sequence 3'),
    hint: expect.stringContaining('copy --from'),
  });
  // An agent that has never seen the snapshot relies on the chain.
  expect(await listed([])).toEqual([4, []]);
  expect((await readChain(await open(), (await (await open()).snapshots()).snapshots)).findings).toHaveLength(1);
});

test('a snapshot that retention removed, or that is unreadable now, is not lost', async () => {
  const [first, second] = all as [Snapshot, Snapshot];
  await removeSnapshot(await open(), first, { removed: '2026-11-27T03:00:00Z', why: 'prune' });
  expect(await listed(everything())).toEqual([4, []]);
  writeFileSync(fileOf(2), 'no');
  expect(await listed(everything())).toEqual([3, [`${second.manifest.id} OBJECT_DAMAGED`]]);
});

const NOTE = { removed: '2026-11-27T03:00:00Z', why: 'prune' };
const tombstoneOf = (day: number) => join(directory, tombstoneKey('shop', idOf(day)));
const plant = (day: number, text: string) => {
  mkdirSync(dirname(tombstoneOf(day)), { recursive: true });
  writeFileSync(tombstoneOf(day), text);
};

test('a tombstone that is unreadable or of another manifest hides no lost snapshot, and check reports the former', async () => {
  await removeSnapshot(await open(), all[4] as Snapshot, NOTE);
  const valid = readFileSync(tombstoneOf(5), 'utf8');
  expect(await listed(everything())).toEqual([4, []]);
  const { sha256: _, ...rest } = JSON.parse(valid) as Record<string, unknown>;
  const unreadable = ['', 'null', '{"format":1', valid.replace(idOf(5), idOf(4)), JSON.stringify(rest)];
  for (const text of [...unreadable, valid.replace(/"sha256":"[0-9a-f]{4}/, '"sha256":"0000')]) {
    plant(5, text);
    expect(await listed(everything())).toEqual([4, [`${idOf(5)} CHAIN_BROKEN`]]);
    const repository = await open(everything());
    await expect(resolveSnapshot(repository, 'latest', NOW)).rejects.toMatchObject({ code: 'CHAIN_BROKEN' });
    const { findings } = await readChain(repository, (await repository.snapshots()).snapshots);
    const expected = unreadable.includes(text) ? [[idOf(5), 'OBJECT_DAMAGED']] : [];
    expect(findings.map(({ snapshot, error }) => [snapshot, error.code])).toEqual(expected);
  }
});

test('with a signing key, an unsigned tombstone explains only the loss of a snapshot from before the key', async () => {
  await removeSnapshot(await open(), all[1] as Snapshot, NOTE);
  const key = ['correct horse battery staple'];
  const signed = [await commit(idOf(6), {}, key), await commit(idOf(7), {}, key), await commit(idOf(8), {}, key)];
  const seen = [...everything(), ...signed.map(placeOf)];
  await removeSnapshot(await open([], key), signed[0] as Snapshot, NOTE);
  expect(await listed(seen, key)).toEqual([6, []]);
  await removeSnapshot(await open(), signed[2] as Snapshot, NOTE);
  expect(await listed(seen, key)).toEqual([5, [`${idOf(8)} CHAIN_BROKEN`]]);
  // Even if nothing signed is left.
  await removeSnapshot(await open(), signed[1] as Snapshot, NOTE);
  rmSync(tombstoneOf(6));
  expect(await listed(seen, key)).toEqual([4, [8, 7, 6].map((day) => `${idOf(day)} CHAIN_BROKEN`)]);
  expect(await listed(seen)).toEqual([4, [`${idOf(6)} CHAIN_BROKEN`]]);
});

test('tombstones are read only for snapshots that were seen and are gone', async () => {
  for (const day of [1, 2, 3]) await removeSnapshot(await open(), all[day - 1] as Snapshot, NOTE);
  const of = createLocalDestination({ root: directory });
  const got: string[] = [];
  const get: Destination['get'] = (key, options) => {
    got.push(key);
    return of.get(key, options);
  };
  const [first, , , ...there] = everything();
  const list = async (seen: SeenChain) => {
    got.length = 0;
    await (await open(seen)).through({ ...of, get }).snapshots();
    return got.filter((key) => key.includes('/tombstones/'));
  };
  expect(await list(there)).toEqual([]);
  expect(await list([first as SeenChain[number], ...there])).toEqual([tombstoneKey('shop', idOf(1))]);
});

test('a manifest that was edited since it was seen is damaged, whether it is the newest or is named by its id', async () => {
  for (const day of [5, 2]) {
    const text = readFileSync(fileOf(day), 'utf8');
    writeFileSync(fileOf(day), text.replace('"agentVersion":"0.1.0"', '"agentVersion":"0.1.9"'));
    expect(await listed(everything())).toEqual([4, [`${idOf(day)} CHAIN_BROKEN`]]);
    await expect((await open(everything())).resolve(idOf(day))).rejects.toMatchObject({ code: 'CHAIN_BROKEN' });
    writeFileSync(fileOf(day), text);
  }
  expect(await listed(everything())).toEqual([5, []]);
});

test('latest is refused if the newest was edited or is gone, even if a wrong clock dated it', async () => {
  const latest = async (seen: SeenChain) => (await resolveSnapshot(await open(seen), 'latest', NOW)).manifest.id;
  lose(2);
  expect(await latest(everything())).toBe(idOf(5));
  lose(5);
  await expect(latest(everything())).rejects.toMatchObject({ code: 'CHAIN_BROKEN' });
  expect(await latest([])).toBe(idOf(4));
  for (const id of ['20271129T030000Z-00000f', '20251129T030000Z-00000f']) {
    const seen = [...everything().slice(0, 4), { id, sequence: 5, hash: '' }];
    await expect(latest(seen)).rejects.toMatchObject({ code: 'CHAIN_BROKEN' });
  }
});

test('a chain that ends before a snapshot that was seen is refused, even if it is empty or has another in its place', async () => {
  const refused = async (seen: SeenChain) => {
    const repository = await open(seen);
    const list = await repository.snapshots();
    expect(() => refuseLostEnd(repository, list)).toThrow(
      expect.objectContaining({ code: 'CHAIN_BROKEN', hint: expect.stringContaining('accept') }),
    );
  };
  const seen = everything();
  lose(5);
  await refused(seen);
  await commit('20261125T030000Z-0000ff');
  await refused(seen);
  lose(1, 2, 3, 4);
  rmSync(join(directory, manifestKey('shop', '20261125T030000Z-0000ff')));
  await refused(seen);
});

test('a chain that continues after a lost snapshot is not refused', async () => {
  lose(3);
  const repository = await open(everything());
  refuseLostEnd(repository, await repository.snapshots());
});

test('a lost, unreadable or changed snapshot is remembered until it is back or removed', async () => {
  const seen = everything();
  lose(3);
  writeFileSync(fileOf(4), 'no');
  const list = await (await open(seen)).snapshots();
  const sorted = (places: SeenChain) => places.toSorted((a, b) => a.sequence - b.sequence);
  expect(sorted(rememberList(list, seen))).toEqual(seen);
  expect(rememberList(list, [])).toHaveLength(3);
});

test('an agent that has not seen the chain finds missing snapshots by hash until they are back', async () => {
  const missing = async () => missingPlaces(await open(), await (await open()).snapshots());
  expect(await missing()).toEqual([]);
  await removeSnapshot(await open(), all[2] as Snapshot, { removed: '2026-11-27T03:00:00Z', why: 'prune' });
  expect(await missing()).toEqual([]);
  const text = readFileSync(fileOf(2), 'utf8');
  lose(2);
  // The tombstone of the third names the second.
  const places = await missing();
  expect(places).toEqual([{ id: `before ${idOf(3)}`, sequence: 2, hash: all[1]?.hash }]);
  expect(await listed(places)).toEqual([3, [`before ${idOf(3)} CHAIN_BROKEN`]]);
  mkdirSync(dirname(fileOf(2)), { recursive: true });
  writeFileSync(fileOf(2), text);
  expect(await listed(places)).toEqual([4, []]);
});

test('the state remembers the chain of one repository only', async () => {
  const state = openState(join(directory, 'state'));
  const known = (id: string) => ({
    info: { format: 1 as const, id, created: '2026-11-20T03:00:00Z' },
    name: '/backups',
  });
  expect(await state.chain('shop')).toBeUndefined();
  await state.saveRepository(known('one'));
  await state.saveChain('shop', everything());
  expect(await state.chain('shop')).toEqual(everything());
  // A project that was renamed has a chain of its own.
  expect(await state.chain('market')).toBeUndefined();
  await state.saveRepository(known('two'));
  expect(await state.chain('shop')).toBeUndefined();
  await state.saveChain('shop', everything());
  await state.saveChain('shop', undefined);
  expect(await state.chain('shop')).toBeUndefined();
});
