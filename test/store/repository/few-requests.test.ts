import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../../src/base/log.ts';
import type { Destination } from '../../../src/destinations/destination.ts';
import { listOnce } from '../../../src/destinations/list-once.ts';
import { Listing } from '../../../src/destinations/listing.ts';
import { createS3Destination } from '../../../src/destinations/s3/s3.ts';
import { openManifestCache } from '../../../src/run/document-caches.ts';
import { FORMAT, type Manifest } from '../../../src/store/objects/manifest.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import { nextPlace } from '../../../src/store/repository/chain.ts';
import { takeLease } from '../../../src/store/repository/lease.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
import type { Repository, Snapshot } from '../../../src/store/repository/repository.ts';
import { keys } from '../../contract/destination.ts';
import { memoryS3, startStubS3 } from '../../harness/stub-s3.ts';
import { noSightings, scratchBase } from '../helpers.ts';
import { inMemory } from '../memory-destination.ts';

/** What a repository in a bucket costs in requests. */

let scratch: string;
let bucket: ReturnType<typeof memoryS3>;
let stub: Awaited<ReturnType<typeof startStubS3>>;
let destination: Destination;
let repository: Repository;
beforeEach(async () => {
  scratch = mkdtempSync(join(scratchBase, 'lifeboat-requests-'));
  bucket = memoryS3();
  stub = await startStubS3(bucket.answer);
  const { location, credentials } = stub;
  destination = createS3Destination({ location, credentials, uploads: join(scratch, 'uploads'), env: {} });
  const manifests = openManifestCache(join(scratch, 'manifests'));
  repository = await openRepository(destination, { project: 'shop', create: true, keys: {}, manifests });
});
afterEach(() => {
  stub.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** Commits snapshots that name one object each. */
async function commit(count: number): Promise<Snapshot[]> {
  const all: Snapshot[] = [];
  for (let i = 0; i < count; i++) {
    const id = `20261120T0300${String(all.length).padStart(2, '0')}Z-4f1c9a`;
    const index = await repository.putFacts(id, 'web.media', { i });
    const last = all.at(-1);
    const place = { sequence: i + 1, previous: last?.hash ?? null };
    const time = '2026-11-20T03:00:00.000Z';
    const source = { kind: 'volume', status: 'ok', index, facts: index, files: 1, bytes: 1 } as const;
    const more = { newFiles: 1, newBytes: 1, summary: '', warnings: [], skipped: {} };
    const manifest = {
      ...{ format: FORMAT, project: 'shop', id, start: time, end: time, trigger: 'schedule', agentVersion: '1' },
      ...{ status: 'ok', sources: { 'web.media': { ...source, ...more } }, ...place },
    } as unknown as Manifest;
    all.push(await repository.commit(manifest));
  }
  return all;
}

const counted = (method: string) => bucket.seen.filter((one) => one.method === method && one.key !== '').length;
const key = (id: string) => `shop/snapshots/${id}/manifest.json`;

test('a manifest is fetched once, and again after somebody has changed it', async () => {
  const all = await commit(5);
  expect((await repository.snapshots()).snapshots).toHaveLength(5);
  bucket.seen.length = 0;
  const list = await repository.snapshots();
  expect(counted('GET')).toBe(0);
  expect(list.snapshots.map(({ hash }) => hash)).toEqual(all.map(({ hash }) => hash).reverse());
  // Everything that reads for the sake of reading fetches.
  await repository.snapshots(undefined, { fetch: true });
  expect(counted('GET')).toBe(5);
  const id = all[2]?.manifest.id as string;
  const stored = bucket.objects.get(key(id));
  if (stored) bucket.objects.set(key(id), { ...stored, content: stored.content.subarray(0, 100) });
  expect((await repository.snapshots()).damaged.map((one) => one.id)).toEqual([id]);
  if (stored) bucket.objects.set(key(id), stored);
  expect((await repository.snapshots()).damaged).toEqual([]);
});

test('a manifest that is gone is not taken from memory, and its file goes too', async () => {
  const [first] = await commit(2);
  await repository.snapshots();
  bucket.objects.delete(key(first?.manifest.id as string));
  expect((await repository.snapshots()).snapshots).toHaveLength(1);
  expect(readdirSync(join(scratch, 'manifests'))).toHaveLength(1);
});

test('a damaged file of the memory is not used', async () => {
  await commit(1);
  await repository.snapshots();
  const [name = ''] = readdirSync(join(scratch, 'manifests'));
  writeFileSync(join(scratch, 'manifests', name), 'x\n{}');
  bucket.seen.length = 0;
  expect((await repository.snapshots()).snapshots).toHaveLength(1);
  expect(counted('GET')).toBe(1);
});

test('the fence before a commit also lists the objects; without one of them, nothing is committed', async () => {
  const [first] = await commit(1);
  const sightings = noSightings;
  const who = { project: 'shop', home: 'a', holder: 'a', log: silentLog, sightings, now: () => new Date() };
  const objects = new Listing();
  const lease = await takeLease({ ...who, destination }, objects);
  expect([...objects.below('')].map((one) => one.key)).toEqual(await keys(destination, 'shop/'));
  const place = await nextPlace(repository, await repository.snapshots());
  const manifest = { ...(first as Snapshot).manifest, ...place };
  bucket.seen.length = 0;
  await repository.commit({ ...manifest, id: '20261121T030000Z-4f1c9a' }, lease);
  const lists = () => bucket.seen.filter(({ query }) => query.has('list-type')).map(({ query }) => query.get('prefix'));
  expect(lists()).toEqual(['shop/', 'shop/leases/']);
  const next = await nextPlace(repository, await repository.snapshots());
  bucket.objects.delete(manifest.sources['web.media']?.index?.key as string);
  const before = [...bucket.objects.keys()].filter((one) => one.endsWith('manifest.json'));
  const refused = repository.commit({ ...manifest, ...next, id: '20261122T030000Z-4f1c9a' }, lease);
  await expect(refused).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  expect([...bucket.objects.keys()].filter((one) => one.endsWith('manifest.json'))).toEqual(before);
  // A fence that lists nothing proves nothing about the objects.
  const silent = repository.commit(
    { ...manifest, ...next, id: '20261122T030000Z-4f1c9b' },
    { fence: async () => undefined },
  );
  await expect(silent).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
});

test('a view lists once, and again after a failure', async () => {
  let lists = 0;
  let fails = true;
  const base = inMemory('memory', new Map());
  for (const name of ['shop/a', 'shop/b/c', 'other/x']) await base.put(name, streamOf('x'));
  const counting: Destination = {
    ...base,
    async *list(prefix) {
      lists++;
      if (fails) throw new Error('no answer');
      yield* base.list(prefix);
    },
  };
  const view = listOnce(counting, 'shop/');
  await expect(keys(view, 'shop/b/')).rejects.toThrow('no answer');
  fails = false;
  expect(await keys(view, 'shop/b/')).toEqual(['shop/b/c']);
  expect(await keys(view, 'shop/')).toEqual(['shop/a', 'shop/b/c']);
  expect(lists).toBe(2);
  expect(await keys(view, '')).toEqual(['other/x', 'shop/a', 'shop/b/c']);
  expect(await (await view.get('shop/a')).toArray()).toHaveLength(1);
});
