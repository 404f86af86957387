import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { ObjectInfo } from '../../src/destinations/destination.ts';
import { compareKeys } from '../../src/destinations/keys.ts';
import { Listing } from '../../src/destinations/listing.ts';

function objectsOf(count: number): ObjectInfo[] {
  const objects: ObjectInfo[] = [
    { key: 'lifeboat.json', size: 70, version: '"etag" 17' },
    { key: 'shop/pins/é.json', size: 0, version: 'v' },
    { key: 'shop/pins/😀.json', size: 1 },
    { key: `shop/snapshots/a/${'x'.repeat(200)}`, size: 2 ** 40 },
    { key: 'shop/snapshots/a/manifest.json', size: 3, version: 'é' },
    { key: 'shop/snapshots/b', size: 4 },
    { key: 'shop-staging/packs/a', size: 5 },
  ];
  for (let n = 0; n < count; n++) {
    const id = createHash('md5').update(String(n)).digest('hex');
    objects.push({ key: `shop/packs/web.media/${id.slice(0, 2)}/${id}.zip.zst`, size: n });
  }
  return objects.sort((a, b) => compareKeys(a.key, b.key));
}

function listingOf(objects: readonly ObjectInfo[]): Listing {
  const listing = new Listing();
  for (const object of objects) listing.add(object);
  return listing;
}

const PREFIXES = ['', 'shop/', 'shop/packs/', 'shop/packs/web.media/7f/', 'shop/pins/', 'shop/snapshots/a/', 'z', 'a/'];

test('a listing returns its objects in order, and those below a prefix', () => {
  const objects = objectsOf(10_000);
  const listing = listingOf(objects);
  expect(listing.size).toBe(objects.length);
  for (const prefix of PREFIXES)
    expect([...listing.below(prefix)]).toEqual(objects.filter(({ key }) => key.startsWith(prefix)));
  listing.clear();
  expect([...listing.below('')]).toEqual([]);
});

test('single objects are found, in whatever order they are looked up', () => {
  const objects = objectsOf(1000);
  for (const ordered of [objects, objects.toReversed()]) {
    const listing = listingOf(ordered);
    const some = objects.map(({ key, size }, index) => ({ key, size, index })).filter(({ index }) => index % 37 === 0);
    const shuffled = some.toSorted((a, b) => ((a.index * 7919) % 5003) - ((b.index * 7919) % 5003));
    for (const { key, size, index } of [...some, ...some.toReversed(), ...shuffled]) {
      expect(listing.find(key)).toEqual({ index, size });
      for (const other of [`${key}x`, key.slice(0, -1), '', 'a', 'z']) expect(listing.find(other)).toBeUndefined();
    }
  }
  expect(listingOf([]).find('a')).toBeUndefined();
  const unread = new LifeboatError('DEST_UNREACHABLE', 'it cannot be read');
  const odd = listingOf([{ key: 'a', size: undefined, unread }]);
  expect(odd.find('a')).toEqual({ index: 0, size: undefined });
  odd.add({ key: 'b', size: 7 });
  expect(odd.find('b')).toEqual({ index: 1, size: 7 });
});

test('objects in another order are brought into order', () => {
  const unread = new LifeboatError('DEST_UNREACHABLE', 'it cannot be read');
  const objects: ObjectInfo[] = [{ key: 'a/odd', size: undefined, unread }, ...objectsOf(3000)];
  const listing = listingOf(objects.toReversed());
  for (const prefix of PREFIXES)
    expect([...listing.below(prefix)]).toEqual(objects.filter(({ key }) => key.startsWith(prefix)));
  const last = { key: 'a', size: 1 };
  listing.add(last);
  expect([...listing.below('')]).toEqual([last, ...objects]);
});

test('to look up every object takes about as long, whatever the order of the listing', () => {
  const objects = objectsOf(30_000);
  // Reading all objects for each lookup, it would end after minutes.
  const listing = listingOf(objects.toReversed());
  expect(objects.filter(({ key }) => listing.find(key) === undefined)).toEqual([]);
});

test('an object that cannot be inspected keeps its reason, and an empty one its size', () => {
  const unread = new LifeboatError('DEST_UNREACHABLE', 'it cannot be read');
  const objects: ObjectInfo[] = [
    { key: 'shop/a', size: 0 },
    { key: 'shop/b', size: undefined, unread },
    { key: 'shop/c', size: 1 },
  ];
  expect([...listingOf(objects).below('shop/')]).toEqual(objects);
});

test('a pack has no version, and takes less than 70 bytes', () => {
  const packs = objectsOf(20_000).filter(({ key }) => key.startsWith('shop/packs/'));
  const listing = new Listing();
  for (const pack of packs) listing.add({ ...pack, version: '"0123456789abcdef0123456789abcdef" 1700000000000' });
  // The memory of the process is no measure: the engine frees buffers of other tests at any time.
  const blocks: { bytes: Buffer }[] = Reflect.get(listing, 'blocks');
  const held = blocks.reduce((sum, { bytes }) => sum + bytes.length, 0);
  expect(held).toBeGreaterThan(packs.length * 20);
  expect(held).toBeLessThan(packs.length * 70);
  expect([...listing.below('')]).toEqual(packs);
});
