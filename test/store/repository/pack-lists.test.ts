import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Destination } from '../../../src/destinations/destination.ts';
import { openPackListCache } from '../../../src/run/document-caches.ts';
import type { Manifest, PackListRef } from '../../../src/store/objects/manifest.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import { decodePackList, encodePackList, SeenLines } from '../../../src/store/objects/pack-list.ts';
import type { PackRef } from '../../../src/store/packs/pack-stream.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
import { objectsOf, visitPacks, withListsOf } from '../../../src/store/repository/pack-lists.ts';
import { scratchBase } from '../helpers.ts';
import { inMemory } from '../memory-destination.ts';

let root: string;
let objects: Map<string, string>;
let destination: Destination;
let read: string[];
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-lists-'));
  objects = new Map();
  read = [];
  const memory = inMemory('memory', objects);
  destination = {
    ...memory,
    get: (key, options) => {
      read.push(key);
      return memory.get(key, options);
    },
  };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const SOURCE = 'web.media';
const ID = (n: number) => `2026112${n}T030000Z-00000${n}`;
const open = (maxBytes?: number) =>
  openRepository(destination, {
    ...{ project: 'shop', create: true, keys: {} },
    ...(maxBytes === undefined ? {} : { lists: openPackListCache(join(root, 'lists'), maxBytes) }),
  });

async function pack(digit: string): Promise<PackRef> {
  const id = digit.repeat(32);
  const key = `shop/packs/${SOURCE}/${digit}${digit}/${id}.zip`;
  const stored = objects.has(key) ? undefined : await destination.put(key, streamOf(`pack ${digit}`));
  return { id, key, ...(stored ?? { size: 6, sha256: '0'.repeat(64) }), plainSize: 6 };
}

const manifestOf = (n: number, packs: PackListRef | undefined): Manifest => ({
  ...{ format: 1, id: ID(n), project: 'shop', sequence: n, previous: null, trigger: 'schedule', agentVersion: '0' },
  ...{ start: '2026-11-20T03:00:00.000Z', end: '2026-11-20T03:00:00.000Z', status: 'ok' },
  sources: {
    [SOURCE]: {
      ...{ kind: 'volume', status: 'ok', files: 1, bytes: 1, newBytes: 1, newFiles: 1 },
      ...{ summary: '', warnings: [], skipped: {} },
      ...(packs ? { packs } : {}),
    },
  },
});

test('lines are sorted, equal sets of packs give equal bytes, and lines that were seen are skipped', async () => {
  const [a, b] = [await pack('a'), await pack('b')];
  const lines = encodePackList([b, { ...a, keyId: 'k' }]);
  expect(lines.equals(encodePackList([{ ...a, keyId: 'k' }, b]))).toBe(true);
  const ref = { key: 'list', size: 1, sha256: '' };
  expect([...decodePackList(lines, ref)]).toEqual([{ ...a, keyId: 'k' }, b]);
  const seen = new SeenLines();
  expect([...decodePackList(encodePackList([b]), ref, seen)]).toEqual([b]);
  expect([...decodePackList(lines, ref, seen)]).toEqual([{ ...a, keyId: 'k' }]);
  // A line that differs in any field is not the same.
  expect([...decodePackList(encodePackList([{ ...b, size: 7 }]), ref, seen)]).toHaveLength(1);
  for (const damaged of ['{', '{}\n', '{"id":"x"}\n', lines.toString().slice(0, -1)])
    expect(() => [...decodePackList(Buffer.from(damaged), ref)]).toThrow(
      expect.objectContaining({ code: 'OBJECT_DAMAGED' }),
    );
});

test('a line hides no line of another list, whatever that differs in', async () => {
  const of = await pack('a');
  const ref = { key: 'list', size: 1, sha256: '' };
  const id = 'b'.repeat(32);
  const variants: PackRef[] = [
    of,
    { ...of, size: of.size + 1 },
    { ...of, sha256: 'f'.repeat(64) },
    { ...of, plainSize: 7 },
    { ...of, keyId: 'k' },
    { ...of, key: `${of.key}.zst` },
    { ...of, key: of.key.replace(SOURCE, 'web.x') },
    { ...of, key: of.key.replace(of.id, id) },
    { ...of, key: of.key.replace(of.id, 'x') },
    { ...of, key: 'a "quoted" name' },
    { ...of, key: 'a "quoted" nome' },
    { ...of, id },
    { ...of, id, key: of.key.replace(of.id, id) },
  ];
  const seen = new SeenLines();
  for (const one of variants) expect([...decodePackList(encodePackList([one]), ref, seen)]).toEqual([one]);
  const again = variants.flatMap((one) => [...decodePackList(encodePackList([one]), ref, seen)]);
  // Only a key with a quote is decoded each time.
  expect(again.map(({ key }) => key)).toEqual(['a "quoted" name', 'a "quoted" nome']);
  // A line in another form is decoded each time.
  const spaced = Buffer.from(encodePackList([of]).toString().replace('{"id"', '{ "id"'));
  for (let i = 0; i < 2; i++) expect([...decodePackList(spaced, { ...ref, key: `${i}` }, seen)]).toEqual([of]);
});

test('of a list that differs little from the last one of its source, only the new lines are decoded', () => {
  const ref = { key: `shop/snapshots/1/${SOURCE}.packs.ndjson.zst`, size: 1, sha256: '' };
  const packOf = (n: number, more: Partial<PackRef> = {}): PackRef => {
    const id = createHash('md5').update(`${n}`).digest('hex');
    return { id, key: `shop/packs/${SOURCE}/${id}.zip`, size: n, sha256: '0'.repeat(64), plainSize: 6, ...more };
  };
  // Each differs from the one before in some packs at random places, also the first and the last.
  const lists = Array.from({ length: 30 }, (_, day) => {
    const packs = Array.from({ length: 300 - (day % 7) }, (__, i) => packOf(day * 9 + i));
    return packs.map((one, i) => (i % 50 === day % 50 ? { ...one, size: day } : one));
  });
  const seen = new SeenLines();
  const has = vi.spyOn(seen, 'has');
  const found = lists.flatMap((packs) => [...decodePackList(encodePackList(packs), ref, seen)]);
  const lines = (packs: PackRef[]) => encodePackList(packs).toString().split('\n').slice(0, -1);
  expect(new Set(lines(found))).toEqual(new Set(lists.flatMap(lines)));
  expect(found).toHaveLength(new Set(lists.flatMap(lines)).size);
  // 30 lists have about 9,000 lines.
  expect(has.mock.calls.length).toBeLessThan(300 + 30 * 50);
  // A list in another order, or with lines twice, hides nothing either.
  const last = encodePackList(lists.at(-1) as PackRef[]).toString();
  const turned = [...last.split('\n').slice(0, -1).reverse(), ...lines([packOf(9999)])];
  const mixed = Buffer.from(turned.map((line) => `${line}\n`).join(''));
  expect([...decodePackList(mixed, ref, seen)]).toEqual([packOf(9999)]);
  expect(() => [...decodePackList(Buffer.from(`${last}{"id":"`), ref, seen)]).toThrow('ends within a line');
});

test('a large list gives its memory back once the next list of its source was compared with it', () => {
  const ref = { key: `shop/snapshots/1/${SOURCE}.packs.ndjson.zst`, size: 1, sha256: '' };
  const listOf = (from: number) =>
    encodePackList(
      Array.from({ length: 2000 }, (_, i) => {
        const id = createHash('md5')
          .update(`${from + i}`)
          .digest('hex');
        return { id, key: `shop/packs/${SOURCE}/${id}.zip`, size: 1, sha256: '0'.repeat(64), plainSize: 6 };
      }),
    );
  const seen = new SeenLines();
  const lists = [listOf(0), listOf(10), listOf(20)];
  expect(lists.map((list) => [...decodePackList(list, ref, seen)].length)).toEqual([2000, 10, 10]);
  expect(lists.map(({ length }) => length > 0)).toEqual([false, false, true]);
  seen.clear();
});

test('a snapshot with the same packs shares the list of the last one, and needs every pack in it', async () => {
  const repository = await open();
  const packs = [await pack('a'), await pack('b')];
  const first = (await repository.putPacks({ id: ID(1), source: SOURCE, packs })) as PackListRef;
  expect(first).toMatchObject({ key: `shop/snapshots/${ID(1)}/${SOURCE}.packs.ndjson.zst`, count: 2 });
  const put = (id: number, all: PackRef[]) =>
    repository.putPacks({ id: ID(id), source: SOURCE, packs: all }, { last: first });
  expect(await put(2, packs.toReversed())).toEqual(first);
  expect((await put(3, [...packs, await pack('c')]))?.key).toContain(ID(3));
  // As many packs, but others.
  expect((await put(4, [packs[0] as PackRef, await pack('d')]))?.key).toContain(ID(4));
  expect(await put(5, [])).toBeUndefined();
  // A list that cannot be read is not built on.
  objects.set(first.key, (objects.get(first.key) as string).replace(/.$/s, '~'));
  expect((await put(6, packs))?.key).toContain(ID(6));
});

test('a snapshot is committed only if its list can be read and its packs are there', async () => {
  const repository = await open();
  const packs = [await pack('a'), await pack('b')];
  const list = (await repository.putPacks({ id: ID(1), source: SOURCE, packs })) as PackListRef;
  const content = objects.get(list.key) as string;
  objects.set(list.key, content.replace(/.$/s, '~'));
  await expect(repository.commit(manifestOf(1, list))).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  objects.delete(list.key);
  await expect(repository.commit(manifestOf(1, list))).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  objects.set(list.key, content);
  const lost = packs[1]?.key as string;
  const former = objects.get(lost) as string;
  objects.delete(lost);
  await expect(repository.commit(manifestOf(1, list))).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  objects.set(lost, former);
  const { manifest } = await repository.commit(manifestOf(1, list));
  expect((await objectsOf(repository, manifest)).map(({ key }) => key)).toEqual([
    list.key,
    ...packs.map(({ key }) => key),
  ]);
});

test('a listing reads no list, and a list is read once while there is room for it in the spool', async () => {
  const repository = await open(10_000);
  const packs = [await pack('a'), await pack('b')];
  const list = (await repository.putPacks({ id: ID(1), source: SOURCE, packs })) as PackListRef;
  await repository.commit(manifestOf(1, list));
  await repository.snapshots();
  expect(read.filter((key) => key === list.key)).toEqual([]);
  rmSync(join(root, 'lists'), { recursive: true });
  for (let i = 0; i < 3; i++) await repository.readPackList(list);
  expect(read.filter((key) => key === list.key)).toHaveLength(1);
  expect(readdirSync(join(root, 'lists'))).toEqual([`${list.sha256}.zst`]);
  const full = await open(list.size - 1);
  rmSync(join(root, 'lists'), { recursive: true });
  for (let i = 0; i < 2; i++) await full.readPackList(list);
  expect(read.filter((key) => key === list.key)).toHaveLength(3);
});

test('a list that cannot be read is named, and hides no pack of the other lists', async () => {
  const repository = await open();
  const put = async (n: number, ...packs: PackRef[]) =>
    (await repository.putPacks({ id: ID(n), source: SOURCE, packs })) as PackListRef;
  const [one, two, three] = [
    await put(1, await pack('a')),
    await put(2, await pack('a'), await pack('b')),
    await put(3, await pack('c')),
  ];
  objects.delete(two.key);
  const found: string[] = [];
  const unread = await visitPacks(repository, [one, two, three], ({ id }) => found.push(id[0] as string));
  expect(found).toEqual(['a', 'c']);
  expect(unread.map(({ list, error }) => [list.key, error.code])).toEqual([[two.key, 'OBJECT_MISSING']]);
  const key = (await pack('c')).key;
  const lists = [one, two, three].map((packs) => ({ packs }));
  expect((await withListsOf(repository, lists, [key])).sort()).toEqual([key, two.key, three.key].sort());
  expect(await withListsOf(repository, lists, [])).toEqual([]);
});
