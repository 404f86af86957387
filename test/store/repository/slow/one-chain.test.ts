import { setImmediate as tick } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { silentLog } from '../../../../src/base/log.ts';
import type { Destination } from '../../../../src/destinations/destination.ts';
import { FORMAT, type Manifest } from '../../../../src/store/objects/manifest.ts';
import { streamOf } from '../../../../src/store/objects/objects.ts';
import { chainBreaks, nextPlace } from '../../../../src/store/repository/chain.ts';
import { takeLease } from '../../../../src/store/repository/lease.ts';
import { LEASE_MS } from '../../../../src/store/repository/lease-steps.ts';
import { openRepository } from '../../../../src/store/repository/open-repository.ts';
import { numbers } from '../../../plan/histories.ts';
import { noSightings } from '../../helpers.ts';
import { inMemory } from '../../memory-destination.ts';

/**
 * Several agents commit to one repository in random orders. Each request may be delayed until the others have finished,
 * may fail and take effect later, or may succeed without a response. Meanwhile, leases expire.
 */

const START = Date.parse('2026-11-20T03:00:00Z');
const AGENTS = ['a', 'b', 'c'];
const RUNS = 3;

class World {
  readonly objects = new Map<string, string>();
  readonly base = inMemory('memory', this.objects);
  readonly random: () => number;
  private waiting: (() => void)[] = [];
  private late: (() => Promise<unknown>)[] = [];
  private busy = AGENTS.length;
  now = START;

  constructor(seed: number) {
    this.random = numbers(seed);
  }

  /** Returns one agent's view of the destination. */
  destination(): Destination {
    const turn = () => new Promise<void>((resolve) => void this.waiting.push(resolve));
    const { base } = this;
    const lost = () => new LifeboatError('DEST_UNREACHABLE', 'no answer');
    return {
      name: base.name,
      put: async (key, body) => {
        const text = (await body.toArray()).join('');
        await turn();
        const put = () => base.put(key, streamOf(text));
        const fate = key.includes('/snapshots/') ? this.random() : 1;
        if (fate < 0.15) {
          this.late.push(() => put().catch(() => undefined));
          throw lost();
        }
        const stored = await put();
        if (fate < 0.3) throw lost();
        return stored;
      },
      get: async (key) => {
        await turn();
        return base.get(key);
      },
      list: async function* (prefix) {
        await turn();
        yield* base.list(prefix);
      },
      delete: async (key) => {
        await turn();
        await base.delete(key);
      },
    };
  }

  done(): void {
    this.busy -= 1;
  }

  /** Lets requests through one at a time, in random order, until all agents have finished. */
  async run(): Promise<void> {
    for (let idle = 0; this.busy > 0; idle++) {
      for (let i = 0; i < 3; i++) await tick();
      if (this.random() < 0.06) this.now += LEASE_MS;
      if (this.random() < 0.05) await this.late.shift()?.();
      const [next] = this.waiting.splice(Math.floor(this.random() * this.waiting.length), 1);
      next?.();
      if (next) idle = 0;
      if (idle > 10_000) throw new Error('nothing goes on');
    }
    for (const land of this.late) await land();
  }
}

/** Runs one agent's backups, which store only a manifest. Resolves to the ids that it reports as stored. */
async function agent(world: World, home: string): Promise<string[]> {
  const destination = world.destination();
  const stored: string[] = [];
  const repository = await openRepository(destination, { project: 'shop', create: false, keys: {} });
  for (let number = 0; number < RUNS; number++) {
    const now = () => new Date(world.now);
    const lease = await takeLease({
      destination,
      project: 'shop',
      home,
      holder: home,
      sightings: noSightings,
      now,
      log: silentLog,
    }).catch(() => undefined);
    if (!lease) continue;
    const id = `20261120T03000${number}Z-${home.repeat(6)}`;
    try {
      const place = await nextPlace(repository, await repository.snapshots(), lease.claimed);
      const time = now().toISOString();
      const manifest: Manifest = {
        ...{ format: FORMAT, id, project: 'shop', ...place, start: time, end: time },
        ...{ trigger: 'schedule', agentVersion: '0', status: 'ok', sources: {} },
      };
      await repository.commit(manifest, { fence: lease.fence });
      stored.push(id);
    } catch (error) {
      expect(['LEASE_LOST', 'DEST_UNREACHABLE']).toContain((error as LifeboatError).code);
    }
    await lease.release();
  }
  return stored;
}

async function simulate(seed: number) {
  const world = new World(seed);
  await openRepository(world.base, { project: 'shop', create: true, keys: {} });
  const agents = Promise.all(AGENTS.map((home) => agent(world, home).finally(() => world.done())));
  await world.run();
  const stored = (await agents).flat();
  const repository = await openRepository(world.base, { project: 'shop', create: false, keys: {} });
  const { snapshots, damaged } = await repository.snapshots();
  const ids = snapshots.map(({ manifest }) => manifest.id);
  const sequences = snapshots.map(({ manifest }) => manifest.sequence);
  expect(damaged, `world ${seed}`).toEqual([]);
  expect(chainBreaks(snapshots, []), `world ${seed}`).toEqual([]);
  expect(new Set(sequences).size, `world ${seed}`).toBe(sequences.length);
  expect(ids, `world ${seed}`).toEqual(expect.arrayContaining(stored));
  return { stored: stored.length, there: ids.length };
}

test('the manifests form one chain, whatever is delayed and for however long', async () => {
  const all = { stored: 0, there: 0 };
  for (let seed = 1; seed <= 60; seed++) {
    const { stored, there } = await simulate(seed);
    all.stored += stored;
    all.there += there;
  }
  // The faults are not so frequent that nothing is stored, nor so rare that nothing fails.
  expect(all.stored).toBeGreaterThan(60);
  expect(all.there).toBeGreaterThan(all.stored);
});
