import { expect, test } from 'vitest';
import type { Destination } from '../../src/destinations/destination.ts';
import { LifeboatError } from '../../src/errors.ts';
import { leaseKey, readNewestLease } from '../../src/store/lease-row.ts';
import { streamOf } from '../../src/store/objects.ts';
import { isPinned, pinKey, readPins } from '../../src/store/pins.ts';
import { Signing } from '../../src/store/signing.ts';
import { readTombstones, tombstoneKey } from '../../src/store/tombstones.ts';
import { readUnreferenced } from '../../src/store/unreferenced.ts';
import { inMemory } from './memory-destination.ts';

/** One small document on a bad sector stops nothing that goes on without it. */

const ID = '20261120T030000Z-00000a';
const signing = new Signing('00000000-0000-4000-8000-000000000000');
const project = 'shop';

/** A destination with one document that its disk does not give back, or that a server does not give now. */
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
  expect(await readNewestLease({ destination, project })).toEqual({ number: 7 });
});

test('a damaged tombstone is none, and is told of', async () => {
  const destination = await withUnreadable(tombstoneKey(project, ID));
  const wrong: string[] = [];
  expect(
    await readTombstones({ destination, project, signing }, { wrong: (id, { code }) => wrong.push(id, code) }),
  ).toEqual([]);
  expect(wrong).toEqual([ID, 'OBJECT_DAMAGED']);
});

test('a damaged pin keeps its snapshot, and is told of', async () => {
  const destination = await withUnreadable(pinKey(project, ID));
  const seen: unknown[] = [];
  const pins = await readPins({ destination, project, signing }, (id, verdict) => seen.push(id, verdict));
  expect([...pins.keys()]).toEqual([ID]);
  expect(await isPinned({ destination, project }, ID)).toBe(true);
  expect(seen).toEqual([ID, expect.objectContaining({ code: 'OBJECT_DAMAGED' })]);
});

test('a damaged list of unreferenced objects is empty', async () => {
  const destination = await withUnreadable(`${project}/unreferenced/${ID}.json`);
  expect(await readUnreferenced(destination, project)).toEqual(new Map());
});

test('a server that does not answer is no damage', async () => {
  const lease = await withUnreadable(leaseKey(project, 7), 'DEST_UNREACHABLE');
  await expect(readNewestLease({ destination: lease, project })).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  const pin = await withUnreadable(pinKey(project, ID), 'DEST_UNREACHABLE');
  await expect(readPins({ destination: pin, project })).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
});
