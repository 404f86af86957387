import path from 'node:path';
import { leaseRepository } from '../src/backup/begin.ts';
import type { RunContext } from '../src/backup/context.ts';
import { prepareKnown } from '../src/backup/known-contents.ts';
import { previousTree } from '../src/backup/previous-tree.ts';
import { silentLog } from '../src/base/log.ts';
import { check } from '../src/check/check.ts';
import type { Destination } from '../src/destinations/destination.ts';
import { listOnce } from '../src/destinations/list-once.ts';
import { Listing } from '../src/destinations/listing.ts';
import { createLocalDestination } from '../src/destinations/local.ts';
import type { Plan } from '../src/plan/model.ts';
import { prune } from '../src/prune/prune.ts';
import { openManifestCache, openPackListCache } from '../src/run/document-caches.ts';
import { openState } from '../src/run/state.ts';
import { renewalRule } from '../src/store/content/repack.ts';
import { StoredSizes } from '../src/store/objects/key-set.ts';
import { newSnapshotId } from '../src/store/objects/snapshot-id.ts';
import { nextPlace } from '../src/store/repository/chain.ts';
import { listEmptiedSources, refuseEmptied } from '../src/store/repository/emptied.ts';
import { takeLease } from '../src/store/repository/lease.ts';
import { openRepository } from '../src/store/repository/open-repository.ts';
import type { Repository } from '../src/store/repository/repository.ts';
import { listContent } from '../src/store/repository/unreferenced.ts';

/** Runs one step of the repository benchmark in this process, and sends its result to the parent. */

export interface StepResult {
  seconds: number;
  peakMiB: number;
  requests: { list: number; get: number; put: number };
}

const LISTED_AT_ONCE = 1000;
const SOURCE = 'web.media';

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

/** A prune of its own removes half of the snapshots, and the one after a run nothing, as usual. */
const keep = { last: step.startsWith('prune') ? 500 : 10_000 } as Parameters<typeof prune>[0]['keep'];
const plan = {
  project: 'shop',
  problems: [],
  sources: [{ name: SOURCE, keep, schedule: '0 * * * *' }],
} as unknown as Plan;

const pruning = (repository: Repository, fence: () => Promise<unknown>): Parameters<typeof prune>[0] =>
  ({
    ...{ repository, plan, keep, journals: at('journals'), zone: 'UTC', log: silentLog, signal },
    state: { accepted: async () => ({}), results: async () => ({}) },
    ...{ now: () => new Date(), fence, clockJump: () => undefined },
  }) as unknown as Parameters<typeof prune>[0];

/** Does what a run does with the repository if it finds no new content: the steps of src/backup, without a source. */
async function storeNothingNew(repository: Repository): Promise<void> {
  const { destination, project } = repository;
  const state = openState(at('state'));
  const lease = (_: Repository, objects?: Listing) =>
    takeLease(
      {
        ...{ destination, project, home: 'bench', holder: 'bench', log: silentLog, sightings: state },
        now: () => new Date(),
      },
      objects,
    );
  const leased = await leaseRepository({ repository: async () => repository, lease });
  const { listed } = leased;
  const list = await listed.snapshots();
  const { snapshots } = list;
  const place = await nextPlace(listed, list, 0);
  await refuseEmptied(listed, snapshots, new Set());
  await listEmptiedSources(listed, snapshots, new Set());
  const stored = new StoredSizes();
  for await (const object of listContent(listed.destination, project)) stored.add(object);
  const last = snapshots[0];
  const entry = last?.manifest.sources[SOURCE];
  if (!last || !entry?.index) throw new Error('there is no snapshot');
  const id = newSnapshotId(new Date());
  const run = { id, trigger: 'schedule', sources: [SOURCE] };
  const context = { ...{ run, repository, snapshots, stored, log: silentLog, signal } } as unknown as RunContext;
  const memory = { state, context, renewal: renewalRule(0.05) };
  const known = await prepareKnown({ ...memory, directory: at(`runs/${id}`) });
  if (!known) throw new Error('the contents of earlier snapshots are not known');
  context.known = known;
  const lastStored = { snapshot: last.manifest.id, at: last.manifest.end, entry };
  const { tree } = await previousTree(memory, SOURCE, lastStored, at(`runs/${id}`));
  if (!tree) throw new Error('the last index is not known');
  const packs = await repository.putPacks({ id, source: SOURCE, packs: tree.packs }, { last: entry.packs });
  const time = new Date().toISOString();
  const now = { id, start: time, end: time, sources: { [SOURCE]: { ...entry, ...(packs ? { packs } : {}) } } };
  const atCommit = new Listing();
  const { fence, release } = leased.lease;
  await repository.commit({ ...last.manifest, ...place, ...now }, { fence, listed: atCommit });
  await known.add(tree.indexPath, { sha256: entry.index.sha256, packs: tree.packs, isBasedOnTable: true });
  await state.cacheIndex(SOURCE, entry.index.sha256, tree.indexPath);
  const view = repository.through(listOnce(destination, `${project}/`, atCommit));
  await prune(pruning(view, fence), { dryRun: false });
  await release();
}

async function run(repository: Repository): Promise<unknown> {
  if (step.startsWith('snapshots')) return repository.snapshots();
  if (step === 'check') return check(repository, { readData: 0, spool: at('runs'), signal });
  if (step.startsWith('prune'))
    return prune(
      pruning(repository, async () => undefined),
      { dryRun: true },
    );
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
