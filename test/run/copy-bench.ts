import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { CopyDeps, CopyPlace } from '../../src/copy/context.ts';
import { copyAll } from '../../src/copy/copy.ts';
import { planWithKeep } from '../../src/copy/plan.ts';
import type { Destination, LockingDestination, SweepingDestination } from '../../src/destinations/destination.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';
import type { KeepPolicy, Plan } from '../../src/plan/model.ts';
import { parseKeep } from '../../src/plan/retention.ts';
import { prune } from '../../src/prune/prune.ts';
import { openState } from '../../src/run/state.ts';
import type { Manifest, ManifestSource } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import { chainBreaks } from '../../src/store/repository/chain.ts';
import { takeLease } from '../../src/store/repository/lease.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { objectsOf, readPacks } from '../../src/store/repository/pack-lists.ts';
import type { Repository, Snapshot } from '../../src/store/repository/repository.ts';
import { readTombstones } from '../../src/store/repository/tombstones.ts';
import { noSightings, scratchBase } from '../store/helpers.ts';
import { inMemory } from '../store/memory-destination.ts';

export const MEDIA = 'web.media';
export const DAY = 86_400_000;

/** Called before each call of a destination. The call fails with the error that this function throws. */
export type Fault = (call: 'put' | 'get' | 'list' | 'stat' | 'delete', key: string) => void | Promise<void>;

/** A destination whose calls fail as `fault` says. */
export function faulty(of: Destination, fault: () => Fault | undefined): Destination {
  return {
    name: of.name,
    async put(key, body, options) {
      await fault()?.('put', key);
      return of.put(key, body, options);
    },
    async get(key, options) {
      await fault()?.('get', key);
      return of.get(key, options);
    },
    async *list(prefix) {
      await fault()?.('list', prefix);
      for await (const object of of.list(prefix)) {
        try {
          await fault()?.('stat', object.key);
          yield object;
        } catch (error) {
          yield { key: object.key, size: undefined, unread: error as LifeboatError };
        }
      }
    },
    async delete(key) {
      await fault()?.('delete', key);
      return of.delete(key);
    },
  };
}

/** A destination with snapshots, and a copy of it: in memory, or as directories. */
export class CopyBench {
  readonly root = mkdtempSync(path.join(scratchBase, 'lifeboat-copy-'));
  readonly state = openState(path.join(this.root, 'state'));
  now = Date.parse('2026-11-10T03:00:00Z');
  /** options of the destination */
  keep = '30d';
  /** options of the copy; absent: those of the destination */
  copyKeep: string | undefined;
  fault: Fault | undefined;
  mainFault: Fault | undefined;
  signingKeys = ['the signing key of this test'];
  signal = new AbortController().signal;
  stallTimeoutMs = 60_000;
  private last: Snapshot | undefined;
  private readonly local: boolean;
  private readonly memory = new Map<string, Map<string, string>>();

  /** makes the copy lock its objects */
  prolong: LockingDestination['prolongLocks'] | undefined;

  constructor({ local = false } = {}) {
    this.local = local;
    for (const name of ['main', 'copy', 'other']) {
      mkdirSync(this.at(name));
      this.memory.set(name, new Map());
    }
  }

  destination(at: string): SweepingDestination {
    return this.local ? createLocalDestination({ root: this.at(at) }) : inMemory(at, this.objects(at));
  }

  private objects(at: string): Map<string, string> {
    return this.memory.get(at) as Map<string, string>;
  }

  /** Overwrites an existing object, which Lifeboat never does. */
  write(at: string, key: string, content: string): void {
    if (this.local) writeFileSync(this.at(at, key), content, 'latin1');
    else this.objects(at).set(key, content);
  }

  at(...parts: string[]): string {
    return path.join(this.root, ...parts);
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }

  main(): Promise<Repository> {
    const destination = faulty(this.destination('main'), () => this.mainFault);
    return openRepository(destination, { project: 'shop', create: true, keys: {}, signingKeys: this.signingKeys });
  }

  /** The copy, for inspection. */
  copy(at = 'copy'): Promise<Repository> {
    const destination = this.destination(at);
    return openRepository(destination, { project: 'shop', create: false, keys: {}, signingKeys: this.signingKeys });
  }

  /** Creates a snapshot at the present time, with its own pack and a pack that all share. Then advances by a day. */
  async night(over: Partial<Manifest> = {}): Promise<Snapshot> {
    const repository = await this.main();
    const id = `${new Date(this.now).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z-00000a`;
    const put = async (key: string, content: string) => ({
      key,
      ...(await repository.destination.put(key, streamOf(content))),
    });
    const last = this.last?.manifest.sources[MEDIA];
    const [before] = last ? await readPacks(repository, last) : [];
    const pack = async (digits: string) => {
      const name = digits.padEnd(32, '0');
      const key = `shop/packs/${MEDIA}/${name.slice(0, 2)}/${name}.zip`;
      return { ...(await put(key, `content of ${name}`.repeat(1000))), id: name, plainSize: 1 };
    };
    const packs = [before ?? (await pack('ab')), await pack(`c${this.now}`)];
    const list = await repository.putPacks({ id, source: MEDIA, packs });
    const index = await put(`shop/snapshots/${id}/${MEDIA}.index.ndjson.zst`, `index of ${id}`);
    const entry: ManifestSource = {
      ...{ kind: 'volume', status: 'ok', index, files: 1, bytes: 1, newBytes: 1, newFiles: 1 },
      ...{ summary: '', warnings: [], skipped: {} },
      ...(list ? { packs: list } : {}),
    };
    const time = new Date(this.now).toISOString();
    this.last = await repository.commit({
      ...{ format: 1, id, project: 'shop', start: time, end: time, trigger: 'schedule', agentVersion: '0.1.0' },
      ...{ sequence: (this.last?.manifest.sequence ?? 0) + 1, previous: this.last?.hash ?? null, status: 'ok' },
      sources: { [MEDIA]: entry },
      ...over,
    });
    this.now += DAY;
    return this.last;
  }

  async nights(count: number): Promise<string[]> {
    const ids: string[] = [];
    for (let i = 0; i < count; i++) ids.push((await this.night()).manifest.id);
    return ids;
  }

  /** Returns the key of the pack that only the nth newest snapshot needs. */
  async ownPack(n: number): Promise<string> {
    const repository = await this.main();
    const { snapshots } = await repository.snapshots();
    const [, own] = await readPacks(repository, (snapshots[n] as Snapshot).manifest.sources[MEDIA] as ManifestSource);
    return own?.key as string;
  }

  private plan(): Plan {
    const sources = [{ name: MEDIA, keep: policy(this.keep), schedule: '0 3 * * *' }];
    return { project: 'shop', problems: [], sources } as unknown as Plan;
  }

  place(at = 'copy'): CopyPlace {
    const sound = this.destination(at);
    const usual = faulty(sound, () => (at === 'copy' ? this.fault : undefined));
    const destination = this.prolong ? { ...usual, prolongLocks: this.prolong } : usual;
    const keep = this.copyKeep === undefined ? undefined : policy(this.copyKeep);
    return {
      name: at,
      ...(keep ? { keep } : {}),
      open: ({ info }, { create }) =>
        openRepository(destination, { project: 'shop', create, keys: {}, signingKeys: this.signingKeys, copyOf: info }),
      isEmpty: async () => false,
      lease: ({ destination: where }) =>
        takeLease({
          ...{ destination: where, project: 'shop', home: 'a', holder: 'a', log: silentLog },
          sightings: noSightings,
          now: () => new Date(this.now),
        }),
      sweep: async () => void (await sound.sweepTemporary({ olderThanMs: 0 })),
    };
  }

  /** Updates the copies; with `pruning`, also prunes them. */
  async run(over: Partial<CopyDeps> = {}, { pruning = false } = {}) {
    const deps: CopyDeps = {
      copies: [this.place()],
      main: () => this.main(),
      ...{ plan: this.plan(), keep: policy(this.keep), state: this.state, zone: 'UTC', log: silentLog },
      ...{ stallTimeoutMs: this.stallTimeoutMs, signal: this.signal, now: () => new Date(this.now) },
      ...(pruning ? { prune: this.prune } : {}),
      ...over,
    };
    return copyAll(deps);
  }

  private readonly prune: NonNullable<CopyDeps['prune']> = ({ keep }, repository, fence, signal) =>
    prune(
      {
        ...{ repository, plan: planWithKeep(this.plan(), keep), keep: keep ?? policy(this.keep), state: this.state },
        ...{ journals: this.at('journals'), zone: 'UTC', log: silentLog, fence, signal },
        clockJump: () => undefined,
        now: () => new Date(this.now),
      },
      { dryRun: false },
    );

  /** Prunes the destination itself. */
  async pruneMain(): Promise<void> {
    const place = { name: 'main' } as CopyPlace;
    await this.prune(place, await this.main(), async () => undefined, this.signal);
  }

  /**
   * Returns the ids of the snapshots in the copy, oldest first. Each must be complete, and their chain without a gap.
   */
  async ids(at = 'copy'): Promise<string[]> {
    const repository = await this.copy(at);
    const { snapshots, damaged } = await repository.snapshots();
    const problems = [...damaged, ...chainBreaks(snapshots, await readTombstones(repository))];
    if (problems.length > 0) throw new Error(JSON.stringify(problems));
    for (const { manifest } of snapshots) await repository.checkObjects(await objectsOf(repository, manifest));
    return snapshots.map(({ manifest }) => manifest.id).reverse();
  }

  /** Returns every object and its content, except leases. */
  files(at = 'copy'): Record<string, string> {
    const content = (key: string) =>
      this.local ? readFileSync(this.at(at, key), 'latin1') : (this.objects(at).get(key) as string);
    const inDirectory = () =>
      readdirSync(this.at(at), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => path.relative(this.at(at), path.join(entry.parentPath, entry.name)));
    const keys = (this.local ? inDirectory() : [...this.objects(at).keys()]).sort();
    return Object.fromEntries(keys.filter((key) => !key.startsWith('shop/leases/')).map((key) => [key, content(key)]));
  }
}

function policy(text: string): KeepPolicy {
  const parsed = parseKeep(text);
  if ('problem' in parsed) throw new Error(parsed.problem);
  return parsed.value;
}
