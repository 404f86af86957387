import path from 'node:path';
import { silentLog } from '../src/base/log.ts';
import { check } from '../src/check/check.ts';
import type { Destination } from '../src/destinations/destination.ts';
import { createLocalDestination } from '../src/destinations/local.ts';
import type { Plan } from '../src/plan/model.ts';
import { prune } from '../src/prune/prune.ts';
import { openManifestCache, openPackListCache } from '../src/run/document-caches.ts';
import type { Manifest, ManifestSource } from '../src/store/objects/manifest.ts';
import { streamOf } from '../src/store/objects/objects.ts';
import { newSnapshotId } from '../src/store/objects/snapshot-id.ts';
import { listEmptiedSources, refuseEmptied } from '../src/store/repository/emptied.ts';
import { openRepository } from '../src/store/repository/open-repository.ts';
import { readPacks } from '../src/store/repository/pack-lists.ts';
import type { Repository } from '../src/store/repository/repository.ts';

/** Runs one step of the repository benchmark in this process, and sends its result to the parent. */

export interface StepResult {
  seconds: number;
  peakMiB: number;
  requests: { list: number; get: number; put: number };
}

const LISTED_AT_ONCE = 1000;

/**
 * Counts calls as an S3 server would: a listing takes a request for each 1,000 objects. Lists a version of each object, as
 * a bucket does with its ETags.
 */
function counting(of: Destination, requests: StepResult['requests']): Destination {
  return {
    name: of.name,
    put: (key, body, options) => {
      requests.put += 1;
      return of.put(key, body, options);
    },
    get: (key, options) => {
      requests.get += 1;
      return of.get(key, options);
    },
    async *list(prefix, options) {
      requests.list += 1;
      let listed = 0;
      for await (const object of of.list(prefix, options)) {
        if (++listed % LISTED_AT_ONCE === 0) requests.list += 1;
        yield { ...object, version: `${object.size}` };
      }
    },
    delete: (key, options) => of.delete(key, options),
  };
}

const signal = new AbortController().signal;
const [step = '', directory = ''] = process.argv.slice(2);
const at = (name: string) => path.join(directory, name);

const keep = { last: 500 } as Parameters<typeof prune>[0]['keep'];
const plan = {
  project: 'shop',
  problems: [],
  sources: [{ name: 'web.media', keep, schedule: '0 * * * *' }],
} as unknown as Plan;

async function dryRun(repository: Repository): Promise<void> {
  const state = { accepted: async () => ({}), results: async () => ({}) };
  await prune(
    {
      ...{ repository, plan, keep, state, journals: at('journals'), zone: 'UTC', log: silentLog, signal },
      ...{ now: () => new Date(), fence: async () => undefined, clockJump: () => undefined },
    },
    { dryRun: true },
  );
}

/** Does what a run does with the repository if it finds no new content. */
async function storeNothingNew(repository: Repository): Promise<void> {
  const { snapshots } = await repository.snapshots();
  await refuseEmptied(repository, snapshots, new Set());
  await listEmptiedSources(repository, snapshots, new Set());
  const last = snapshots[0];
  if (!last) throw new Error('there is no snapshot');
  const entry = last.manifest.sources['web.media'] as ManifestSource;
  const id = newSnapshotId(new Date());
  const packs = await readPacks(repository, entry);
  const list = await repository.putPacks({ id, source: 'web.media', packs }, { last: entry.packs });
  const key = `shop/snapshots/${id}/web.media.index.ndjson.zst`;
  const index = { key, ...(await repository.destination.put(key, streamOf('x'))) };
  const time = new Date().toISOString();
  const manifest: Manifest = {
    ...last.manifest,
    ...{ id, sequence: last.manifest.sequence + 1, previous: last.hash, start: time, end: time },
    sources: { 'web.media': { ...entry, index, ...(list ? { packs: list } : {}) } },
  };
  await repository.commit(manifest);
}

async function run(repository: Repository): Promise<unknown> {
  if (step.startsWith('snapshots')) return repository.snapshots();
  if (step === 'check') return check(repository, { readData: 0, spool: at('runs'), signal });
  if (step.startsWith('prune')) return dryRun(repository);
  return storeNothingNew(repository);
}

const requests = { list: 0, get: 0, put: 0 };
const start = performance.now();
const repository = await openRepository(counting(createLocalDestination({ root: at('backups') }), requests), {
  ...{ project: 'shop', create: false, keys: {} },
  manifests: openManifestCache(at('manifests')),
  lists: openPackListCache(at('packs')),
});
await run(repository);
const seconds = (performance.now() - start) / 1000;
const result: StepResult = { seconds, peakMiB: process.resourceUsage().maxRSS / 1024, requests };
process.send?.(result, () => process.disconnect());
