import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { RunContext } from '../../src/backup/context.ts';
import { previousTree } from '../../src/backup/previous-tree.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Destination } from '../../src/destinations/destination.ts';
import type { Engine } from '../../src/docker/engine.ts';
import type { Mount, Plan } from '../../src/plan/model.ts';
import type { SealKeys } from '../../src/plan/seal-keys.ts';
import { createDispatcher } from '../../src/report/dispatch.ts';
import type { RestoreDeps } from '../../src/restore/context.ts';
import { restore } from '../../src/restore/restore.ts';
import { lastStoredOf } from '../../src/run/history.ts';
import { openState } from '../../src/run/state.ts';
import { measureUse, renewalRule } from '../../src/store/content/repack.ts';
import type { Manifest, ManifestSource } from '../../src/store/objects/manifest.ts';
import { newSnapshotId } from '../../src/store/objects/snapshot-id.ts';
import type { PackRef } from '../../src/store/packs/pack-stream.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { readPacks } from '../../src/store/repository/pack-lists.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { createTreeStore } from '../../src/trees/runner.ts';
import { type Bench, createBench } from '../store/helpers.ts';

export const SOURCE = 'web.media';
export const SIGNING = ['a signing key of this test'];

export function ageKey(): { identity: string; recipient: string } {
  const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return { identity, recipient: execFileSync('age-keygen', ['-y'], { input: identity, encoding: 'utf8' }).trim() };
}

/** A volume with three files, and an encrypted and signed repository. */
export class SealedBench {
  readonly bench: Bench;
  /** advances by a day after each run */
  now = new Date('2026-11-20T03:00:00Z');
  /** keys of the objects that were read from the destination */
  readonly read: string[] = [];

  constructor() {
    this.bench = createBench();
    writeFileSync(path.join(this.tree, 'small'), 'canary content '.repeat(5000));
    writeFileSync(path.join(this.tree, 'next to small'), randomBytes(900_000));
    writeFileSync(path.join(this.tree, 'large'), Buffer.alloc(2_000_000, 'canary'));
  }

  get tree(): string {
    return this.bench.tree;
  }

  open(keys: SealKeys, signingKeys: readonly string[] = SIGNING): Promise<Repository> {
    const { destination } = this.bench;
    const heard: Destination = {
      name: destination.name,
      put: destination.put.bind(destination),
      list: destination.list.bind(destination),
      delete: destination.delete.bind(destination),
      get: (key, options) => {
        this.read.push(key);
        return destination.get(key, options);
      },
    };
    return openRepository(heard, { project: 'shop', create: true, keys, signingKeys });
  }

  /** A run as in src/backup/capture.ts: it reuses packs of the previous run where possible. */
  async run(keys: SealKeys): Promise<{ manifest: Manifest; entry: ManifestSource; packs: PackRef[] }> {
    const { bench, now } = this;
    const repository = await this.open(keys);
    const state = openState(path.join(bench.spool, 'state'));
    const { snapshots } = await repository.snapshots();
    const manifests = snapshots.map(({ manifest }) => manifest);
    const signal = AbortSignal.timeout(100_000);
    const context = {
      repository,
      snapshots,
      log: silentLog,
      run: { trigger: 'manual' },
      signal,
    } as unknown as RunContext;
    const last = lastStoredOf(manifests, SOURCE);
    const { tree, warnings } = await previousTree(
      { state, context, renewal: renewalRule(0.05) },
      SOURCE,
      last,
      bench.spool,
    );
    const id = newSnapshotId(now);
    const indexPath = path.join(bench.spool, `index-${id}`);
    const stored = await bench.store({ keys, indexPath, ...(tree ? { previous: tree } : {}) });
    const facts = await repository.putFacts(id, SOURCE, { kind: 'volume', note: 'canary' });
    const index = await repository.putIndex(id, SOURCE, indexPath);
    const use = await measureUse(indexPath);
    const packs = await repository.putPacks(
      { id, source: SOURCE, packs: stored.packs, use },
      { last: last?.entry.packs },
    );
    const { files, bytes, newBytes, newFiles } = stored;
    const entry: ManifestSource = {
      ...{ kind: 'volume', status: 'ok', index, facts, files, bytes, newBytes, newFiles },
      ...{ summary: '', warnings, skipped: {} },
      ...(packs ? { packs } : {}),
    };
    const time = now.toISOString();
    const { manifest } = await repository.commit({
      ...{ format: 1, id, project: 'shop', start: time, end: time, trigger: 'manual', agentVersion: '0', status: 'ok' },
      ...{ sequence: (manifests[0]?.sequence ?? 0) + 1, previous: snapshots[0]?.hash ?? null },
      sources: { [SOURCE]: entry },
    });
    await state.cacheIndex(SOURCE, index.sha256, indexPath);
    this.now = new Date(now.getTime() + 24 * 60 * 60_000);
    return { manifest, entry, packs: await readPacks(repository, entry) };
  }

  /**
   * Restores the newest snapshot into the volume. `confirm` is called when everything except the packs was inspected.
   */
  async restore(keys: SealKeys, signingKeys: readonly string[] = SIGNING, confirm = async () => {}): Promise<void> {
    const { bench } = this;
    const repository = await this.open(keys, signingKeys);
    const mount: Mount = { type: 'volume', name: 'shop_media', source: '/v', destination: this.tree, writable: true };
    const source = { name: SOURCE, kind: 'volume', mount, include: [], exclude: [], stop: [] };
    const store = createTreeStore({
      ...{
        engine: {} as Engine,
        log: silentLog,
        project: 'shop',
        repository: { destination: bench.destination, keys },
      },
      ...{
        agent: { id: 'a', imageId: 'i', mounts: [] },
        helperPlace: { directory: '/backups' },
        helperEnv: {},
        helperSecrets: {},
        stallTimeoutMs: 100_000,
      },
    });
    const deps: Partial<RestoreDeps> = {
      ...{ project: 'shop', agentVersion: '0', agentId: 'a', foreign: true, log: silentLog, agentMounts: [mount] },
      state: openState(path.join(bench.spool, 'state')),
      lock: async () => ({ release: async () => undefined }),
      journals: path.join(bench.spool, 'journals'),
      spool: path.join(bench.spool, 'runs'),
      clear: async () => undefined,
      dispatcher: createDispatcher([], { log: silentLog }),
      now: () => this.now,
      // In this process instead of a separate one.
      treeStore: { ...store, volume: (job, context) => store.volume(job, { ...context, reach: { kind: 'here' } }) },
      recover: async () => undefined,
      plan: async () => ({ project: 'shop', problems: [], sources: [source] }) as unknown as Plan,
      repository: async () => repository,
    };
    await restore(deps as RestoreDeps, {
      ...{ snapshot: 'latest', source: SOURCE, tables: [], paths: [], overwrite: false, globals: false },
      ...{
        unsigned: false,
        dryRun: false,
        safety: false,
        skipFailed: false,
        live: false,
        stopServices: false,
        confirm,
        canConfirm: true,
      },
      signal: AbortSignal.timeout(100_000),
      say: () => undefined,
    });
  }
}

/** Returns the keys of the packs, in order. */
export function packKeys({ packs }: { packs: readonly PackRef[] }): string[] {
  return packs.map(({ key }) => key).sort();
}
