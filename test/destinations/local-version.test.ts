import { mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { cp, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Destination } from '../../src/destinations/destination.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';
import { openManifestCache } from '../../src/run/document-caches.ts';
import { FORMAT, type Manifest, manifestKey } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { scratchBase } from '../store/helpers.ts';

/** Versions of objects in a local directory. */

let root: string;
let destination: Destination;
let read: string[];
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-version-'));
  const local = createLocalDestination({ root });
  read = [];
  destination = {
    ...local,
    get: (key, options) => {
      read.push(key);
      return local.get(key, options);
    },
  };
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(root, { recursive: true, force: true });
});

const later = (seconds: number) => vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + seconds * 1000 });

async function versionOf(key: string): Promise<string | undefined> {
  for await (const object of destination.list('')) if (object.key === key) return object.version;
  throw new Error(`${key} is not there`);
}

test('an object has a version once its last change is some seconds old, and each change gives it another', async () => {
  await destination.put('a', streamOf('content'));
  expect(await versionOf('a')).toBeUndefined();
  later(10);
  const first = await versionOf('a');
  expect(first).toBeDefined();
  expect(await versionOf('a')).toBe(first);
  const file = join(root, 'a');
  const { atime, mtime } = statSync(file);
  const seen = new Set([first]);
  const expectOther = async () => {
    const now = await versionOf('a');
    expect(seen.has(now)).toBe(false);
    seen.add(now);
  };
  // The same size, and the former time of the last write.
  writeFileSync(file, 'CONTENT');
  utimesSync(file, atime, mtime);
  await expectOther();
  await cp(file, join(root, '.new'), { preserveTimestamps: true });
  await rename(join(root, '.new'), file);
  await expectOther();
  // A clock that was ahead says nothing about when the file changed.
  later(-100);
  expect(await versionOf('a')).toBeUndefined();
});

async function commit(repository: Repository, count: number): Promise<string[]> {
  const ids: string[] = [];
  let previous: string | null = null;
  for (let n = 1; n <= count; n++) {
    const id = `20261120T03000${n}Z-4f1c9a`;
    const time = '2026-11-20T03:00:00.000Z';
    const manifest: Manifest = {
      ...{ format: FORMAT, project: 'shop', id, start: time, end: time, trigger: 'schedule', agentVersion: '1' },
      ...{ status: 'ok', sources: {}, sequence: n, previous },
    };
    previous = (await repository.commit(manifest)).hash;
    ids.push(id);
  }
  return ids;
}

test('the second listing of a directory reads no manifest, and a manifest that somebody replaced is noticed', async () => {
  const repository = await openRepository(destination, {
    ...{ project: 'shop', create: true, keys: {} },
    manifests: openManifestCache(join(root, '.manifests')),
  });
  const ids = await commit(repository, 3);
  later(10);
  const reads = async (options?: { fetch: boolean }) => {
    read = [];
    const list = await repository.snapshots(undefined, options);
    return { read: read.length, damaged: list.damaged.map(({ id }) => id), whole: list.snapshots.length };
  };
  expect(await reads()).toEqual({ read: 3, damaged: [], whole: 3 });
  expect(await reads()).toEqual({ read: 0, damaged: [], whole: 3 });
  // A check reads every manifest: a disk that loses bytes changes no time.
  expect(await reads({ fetch: true })).toEqual({ read: 3, damaged: [], whole: 3 });
  const [, changed = ''] = ids;
  const file = join(root, manifestKey('shop', changed));
  const content = readFileSync(file, 'utf8');
  const { atime, mtime } = statSync(file);
  writeFileSync(file, content.replace('"project":"shop"', '"project":"shoq"'));
  utimesSync(file, atime, mtime);
  expect(await reads()).toEqual({ read: 1, damaged: [changed], whole: 2 });
});
