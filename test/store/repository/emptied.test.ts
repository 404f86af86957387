import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLocalDestination } from '../../../src/destinations/local.ts';
import type { Manifest } from '../../../src/store/objects/manifest.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import { listEmptied, listEmptiedSources, refuseEmptied } from '../../../src/store/repository/emptied.ts';
import { scratchBase } from '../helpers.ts';
import { fakeLists } from '../pack-lists.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-emptied-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const PACKS = ['shop/packs/db/aa/1', 'shop/packs/db/bb/2', 'shop/packs/web/cc/3'];
const { list, readPackList } = fakeLists();
const snapshotOf = (...keys: string[]) => {
  const sources = { db: { packs: list(...keys) } };
  return { manifest: { sources } as unknown as Manifest };
};

test('a repository without its packs is refused until a person accepts their loss', async () => {
  const destination = createLocalDestination({ root });
  const place = { destination, project: 'shop', readPackList };
  const snapshots = [snapshotOf(...PACKS)];
  const refusing = (known: string[] = []) => refuseEmptied(place, snapshots, new Set(known));
  for (const key of PACKS) await destination.put(key, streamOf(key));
  await refusing();
  await destination.delete('shop/packs/db/aa/1');
  await destination.delete('shop/packs/db/bb/2');
  // The loss of some packs is damage, and so is the loss of a single one.
  await refusing();
  await destination.delete('shop/packs/web/cc/3');
  await expect(refusing()).rejects.toMatchObject({ code: 'DEST_FOREIGN', hint: expect.stringContaining('accept') });
  await refuseEmptied(place, [snapshotOf('shop/packs/db/aa/1')], new Set());
  await refuseEmptied(place, [], new Set());
  expect(await listEmptied(place, snapshots)).toEqual(PACKS);
  await refusing(PACKS);
});

test('a source whose packs are all gone is named, whatever the others have', async () => {
  const destination = createLocalDestination({ root });
  const place = { destination, project: 'shop', readPackList };
  const packs = (...keys: string[]) => ({ packs: list(...keys) });
  const of = (sources: object) => ({ manifest: { sources } as unknown as Manifest });
  const [first, second, media] = PACKS as [string, string, string];
  // The newest snapshot of the database stores nothing new, and reuses a pack.
  const snapshots = [of({ db: packs(first), web: packs() }), of({ db: packs(first, second), web: packs(media) })];
  const emptied = (known: string[] = []) => listEmptiedSources(place, snapshots, new Set(known));
  for (const key of PACKS) await destination.put(key, streamOf(key));
  expect(await emptied()).toEqual([]);
  await destination.delete(media);
  expect(await emptied()).toEqual([{ source: 'web', keys: [media] }]);
  await refuseEmptied(place, snapshots, new Set());
  // Once it is known, the next run stores the content again.
  expect(await emptied([media])).toEqual([]);
  await destination.delete(second);
  expect(await emptied([media])).toEqual([]);
  await destination.delete(first);
  expect(await emptied([media])).toEqual([{ source: 'db', keys: [first] }]);
});

test('one in which each snapshot names a single pack is refused as well, not one that only ever had one', async () => {
  const place = { destination: createLocalDestination({ root }), project: 'shop', readPackList };
  const [older, newer] = ['shop/packs/db/aa/1', 'shop/packs/db/bb/2'] as const;
  const refused = expect.objectContaining({ code: 'DEST_FOREIGN' });
  const snapshots = [snapshotOf(newer), snapshotOf(older)];
  await expect(refuseEmptied(place, snapshots, new Set())).rejects.toEqual(refused);
  // The newest has nothing to store, as with an empty volume.
  await expect(refuseEmptied(place, [snapshotOf(), ...snapshots], new Set())).rejects.toEqual(refused);
  expect(await listEmptied(place, [snapshotOf(), ...snapshots])).toEqual([newer]);
  await refuseEmptied(place, snapshots, new Set([newer]));
  await refuseEmptied(place, [snapshotOf(newer), snapshotOf(newer)], new Set());
  await place.destination.put(older, streamOf(older));
  await refuseEmptied(place, snapshots, new Set());
});
