import { mkdtempSync, readdirSync, rmSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Self } from '../../src/app/own-container.ts';
import { createPlaces, forgetPlaces } from '../../src/app/places.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Destination, SweepingDestination, SweepOptions } from '../../src/destinations/destination.ts';
import { s3Place } from '../../src/plan/s3-location.ts';
import { parseSettings } from '../../src/plan/settings.ts';
import { openState } from '../../src/run/state.ts';
import { encodeRepositoryInfo } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import { inMemory } from '../store/memory-destination.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-places-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const own = 's3://acme/shop?region=eu-central-1';
const copy = 's3://acme/shop?endpoint=https://s3.example.org';
const settingsWith = (...copies: string[]) =>
  parseSettings(
    {
      ...{ AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret' },
      ...{ LIFEBOAT_DESTINATION: own, LIFEBOAT_COPY: copies.join(' ') || undefined },
    } as Record<string, string>,
    () => '',
  );

const places = (settings = settingsWith(copy)) =>
  createPlaces({
    ...{ settings, project: 'shop', log: silentLog, now: () => new Date(), state: openState(directory) },
    self: { facts: { mounts: [] } } as unknown as Self,
  });

/** A place with a manifest, in a bucket that has the name of another one. */
function place(endpoint?: string): Destination {
  const objects = new Map([['shop/snapshots/20261120T030000Z-4f1c9a/manifest.json', 'damaged']]);
  const memory = inMemory('s3://acme/shop', objects);
  return {
    ...memory,
    place: s3Place({ bucket: 'acme', prefix: 'shop/', ...(endpoint ? { endpoint } : {}) }),
    async *list(prefix) {
      for await (const object of memory.list(prefix)) yield { ...object, version: '1' };
    },
  };
}

test('places with the same bucket on different servers have separate caches, which go with the settings', async () => {
  const caches = () => readdirSync(path.join(directory, 'manifests'));
  for (const destination of [place(), place('https://s3.example.org'), place('https://elsewhere')]) {
    const info = { format: 1 as const, id: 'one', created: '2026-11-20T03:00:00.000Z' };
    await destination.put('lifeboat.json', streamOf(encodeRepositoryInfo(info)));
    const repository = await places().open(own, destination, { project: 'shop', create: false });
    await repository.snapshots();
  }
  expect(caches()).toHaveLength(3);
  await forgetPlaces(directory, settingsWith());
  // Somebody may read them again with --from.
  expect(caches()).toHaveLength(3);
  const manifests = path.join(directory, 'manifests');
  for (const name of ['', ...readdirSync(manifests, { recursive: true, encoding: 'utf8' })]) {
    const old = Date.now() / 1000 - 31 * 24 * 60 * 60;
    utimesSync(path.join(manifests, name), old, old);
  }
  await forgetPlaces(directory, settingsWith(copy));
  expect(caches()).toHaveLength(2);
  await forgetPlaces(directory, settingsWith());
  expect(caches()).toHaveLength(1);
});

test('a copy with the name of the destination has a name of its own', () => {
  const [location] = settingsWith(copy).copies;
  expect(places().copy(location!).name).toBe(copy);
});

test('a sweep leaves recent uploads of WAL, which a receiver in another process may be storing', async () => {
  const asked: (SweepOptions | undefined)[] = [];
  const sweepTemporary = async (options?: SweepOptions) => asked.push(options);
  const destination = { ...inMemory('/backups', new Map()), sweepTemporary } as unknown as SweepingDestination;
  const recent = { prefix: 'shop/wal/', olderThanMs: 24 * 60 * 60_000 };
  await places().sweep(own, destination);
  expect(asked).toEqual([{ prefix: 'shop/', olderThanMs: 0, recent }]);
  // A crash may have left younger ones, which a later sweep removes.
  await places().sweep(own, destination, { onlyWal: true });
  expect(asked.at(-1)).toEqual({ ...recent, recent });
});
