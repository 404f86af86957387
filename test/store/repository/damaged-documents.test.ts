import { expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import type { Destination } from '../../../src/destinations/destination.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import { damagedLeases, leaseKey, putLease, readNewestLease } from '../../../src/store/repository/lease-row.ts';
import { isPinned, pinKey, readPins } from '../../../src/store/repository/pins.ts';
import { Signing } from '../../../src/store/repository/signing.ts';
import { readTombstones, tombstoneKey } from '../../../src/store/repository/tombstones.ts';
import {
  asMuchAsFits,
  damagedLists,
  readUnreferenced,
  writeUnreferenced,
} from '../../../src/store/repository/unreferenced.ts';
import { inMemory } from '../memory-destination.ts';

/** One small document on a bad sector does not stop work that does not need it. */

const ID = '20261120T030000Z-00000a';
const signing = new Signing('00000000-0000-4000-8000-000000000000');
const project = 'shop';

/** Returns a destination with one document that is unreadable, because of its disk or its server. */
async function withUnreadable(key: string, code: 'OBJECT_DAMAGED' | 'DEST_UNREACHABLE' = 'OBJECT_DAMAGED') {
  const of = inMemory('memory', new Map());
  await of.put(key, streamOf('{}'));
  const get: Destination['get'] = async () => {
    throw new LifeboatError(code, `${key} cannot be read`);
  };
  return { ...of, get };
}

test('a damaged lease binds nobody', async () => {
  const destination = await withUnreadable(leaseKey(project, 7));
  expect(await readNewestLease({ destination, project })).toEqual({
    number: 7,
    version: undefined,
    claimed: 0,
  });
});

test('a damaged tombstone is ignored and reported', async () => {
  const destination = await withUnreadable(tombstoneKey(project, ID));
  const wrong: string[] = [];
  expect(
    await readTombstones({ destination, project, signing }, { wrong: (id, { code }) => wrong.push(id, code) }),
  ).toEqual([]);
  expect(wrong).toEqual([ID, 'OBJECT_DAMAGED']);
});

test('a damaged pin keeps its snapshot and is reported', async () => {
  const destination = await withUnreadable(pinKey(project, ID));
  const wrong: unknown[] = [];
  const pins = await readPins({ destination, project, signing }, { wrong: (id, error) => wrong.push(id, error) });
  expect([...pins.keys()]).toEqual([ID]);
  expect(await isPinned({ destination, project }, ID)).toBe(true);
  expect(wrong).toEqual([ID, expect.objectContaining({ code: 'OBJECT_DAMAGED' })]);
});

test('a damaged list of unreferenced objects counts as empty', async () => {
  const destination = await withUnreadable(`${project}/unreferenced/${ID}.json`);
  expect(await readUnreferenced(destination, project)).toEqual(new Map());
});

test('finds damaged leases and lists, and not undamaged ones', async () => {
  const of = inMemory('memory', new Map());
  await writeUnreferenced(of, project, new Map([['shop/packs/a', 0]]), new Date('2026-11-20T03:00:00Z'));
  const whole = {
    token: 't',
    home: 'h',
    holder: 'c',
    at: '2026-11-20T03:00:00Z',
    expires: '2026-11-20T03:10:00Z',
    released: true,
  };
  await putLease({ destination: of, project }, 6, whole);
  expect(await damagedLeases({ destination: of, project })).toEqual([]);
  expect(await damagedLists(of, project)).toEqual([]);
  const [lease, list] = [leaseKey(project, 7), `${project}/unreferenced/${ID}.json`];
  for (const key of [lease, list]) await of.put(key, streamOf('{"format":1'));
  expect(await damagedLeases({ destination: of, project })).toEqual([lease]);
  expect(await damagedLists(of, project)).toEqual([list]);
  expect(await damagedLeases({ destination: await withUnreadable(lease), project })).toEqual([lease]);
});

test('a list that would be too large holds the objects that were seen first', () => {
  const all = new Map([3, 1, 2].map((at) => [`shop/packs/a/${at}`, at]));
  const one = Buffer.byteLength('"shop/packs/a/1":"1970-01-01T00:00:00.001Z",');
  expect(asMuchAsFits(all, 10 * one)).toBe(all);
  expect([...asMuchAsFits(all, 2 * one + 5).values()]).toEqual([1, 2]);
  expect([...asMuchAsFits(all, 5).values()]).toEqual([]);
});

test('an unresponsive server is not reported as damage', async () => {
  const lease = await withUnreadable(leaseKey(project, 7), 'DEST_UNREACHABLE');
  await expect(readNewestLease({ destination: lease, project })).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  const pin = await withUnreadable(pinKey(project, ID), 'DEST_UNREACHABLE');
  await expect(readPins({ destination: pin, project })).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
});
