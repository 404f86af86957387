import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import type { Destination, ObjectInfo, ReplacingDestination } from '../../../src/destinations/destination.ts';
import { createLocalDestination } from '../../../src/destinations/local.ts';
import { openState } from '../../../src/run/state.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import { isLeasedToOther, takeLease } from '../../../src/store/repository/lease.ts';
import { takeLeaseOnceThereIsRoom } from '../../../src/store/repository/lease-for-room.ts';
import { LEASE_MS, type LeaseDeps } from '../../../src/store/repository/lease-steps.ts';
import { keys } from '../../contract/destination.ts';
import { scratchBase } from '../helpers.ts';

const NOON = Date.parse('2026-11-20T12:00:00Z');
const YEAR = 365 * 24 * 3_600_000;

let root: string;
let destination: Destination;
/** each agent's own clock, milliseconds since 1970 */
let clocks: Record<string, number>;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-lease-'));
  destination = createLocalDestination({ root });
  clocks = {};
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const agent = (home: string, over: Partial<LeaseDeps> = {}): LeaseDeps => ({
  ...{ destination, project: 'shop', home, holder: `container of ${home}`, log: silentLog },
  sightings: openState(join(root, 'states', home)),
  now: () => new Date(clocks[home] ?? NOON),
  ...over,
});
const key = (number: number) => `shop/leases/${String(number).padStart(10, '0')}.json`;
const leases = () => keys(destination, 'shop/leases/');

/** Returns a destination whose put of the lease with a number waits until `go` is called. */
function heldUp(number: number) {
  let go = () => {};
  let arrived = () => {};
  const released = new Promise<void>((resolve) => {
    go = resolve;
  });
  const waiting = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const slow: Destination = {
    ...destination,
    async put(name, body, options) {
      if (name === key(number)) {
        arrived();
        await released;
      }
      return destination.put(name, body, options);
    },
  };
  return { slow, go, waiting };
}

describe('the lease', () => {
  test('belongs to one agent until it is released; the message names the agent and the end', async () => {
    const a = await takeLease(agent('a'));
    await expect(takeLease(agent('b'))).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining('container of a'),
      hint: expect.stringContaining('2026-11-20T12:10:00.000Z'),
    });
    expect(await isLeasedToOther(agent('b'))).toBe(true);
    expect(await isLeasedToOther(agent('a'))).toBe(false);
    await takeLease(agent('b', { project: 'blog' }));
    await a.release();
    const b = await takeLease(agent('b'));
    await expect(takeLease(agent('a'))).rejects.toMatchObject({ code: 'LOCKED' });
    await b.fence();
    await b.release();
  });

  test('of a dead agent is available to the same agent at once, to others after it has expired', async () => {
    await takeLease(agent('a'));
    await takeLease(agent('a'));
    clocks.b = NOON + LEASE_MS - 1;
    await expect(takeLease(agent('b'))).rejects.toMatchObject({ code: 'LOCKED' });
    clocks.b += 1;
    await takeLease(agent('b'));
  });

  test('is prolonged by each fence and leaves one object', async () => {
    const a = await takeLease(agent('a'));
    for (let minutes = 0; minutes <= 60; minutes += 6) {
      clocks = { a: NOON + minutes * 60_000, b: NOON + minutes * 60_000 };
      await a.fence();
      await expect(takeLease(agent('b'))).rejects.toMatchObject({ code: 'LOCKED' });
    }
    expect(await leases()).toEqual([key(12)]);
    await a.release();
    expect(await leases()).toEqual([key(13)]);
  });

  test('is held by one of several agents that take it at once', async () => {
    for (let round = 0; round < 5; round++) {
      const taken = await Promise.allSettled(['a', 'b', 'c', 'd'].map((home) => takeLease(agent(home))));
      const held = taken.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
      const codes = taken.flatMap((one) => (one.status === 'rejected' ? [(one.reason as LifeboatError).code] : []));
      expect({ held: held.length, codes }).toEqual({ held: 1, codes: ['LOCKED', 'LOCKED', 'LOCKED'] });
      await held[0]?.fence();
      await held[0]?.release();
    }
  });

  test.each(['is working', 'has finished'])('a holder that was paused stops if the other agent %s', async (other) => {
    const a = await takeLease(agent('a'));
    clocks = { a: NOON + LEASE_MS, b: NOON + LEASE_MS };
    const b = await takeLease(agent('b'));
    if (other === 'has finished') await b.release();
    await expect(a.fence()).rejects.toMatchObject({ code: 'LEASE_LOST', message: expect.stringContaining('of b') });
    await expect(a.fence()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    const before = await leases();
    await a.release();
    expect(await leases()).toEqual(before);
    if (other === 'is working') await b.fence();
  });

  test('a holder that was paused continues if no other agent took over', async () => {
    const a = await takeLease(agent('a'));
    clocks.a = NOON + 10 * LEASE_MS;
    await a.fence();
  });

  test('a holder paused inside a fence stops, although its number was deleted meanwhile', async () => {
    const { slow, go, waiting } = heldUp(2);
    const a = await takeLease(agent('a', { destination: slow }));
    const fenced = a.fence();
    const stopped = expect(fenced).rejects.toMatchObject({ code: 'LEASE_LOST' });
    await waiting;
    clocks.b = NOON + LEASE_MS;
    const b = await takeLease(agent('b'));
    await b.fence();
    expect(await leases()).toEqual([key(3)]);
    go();
    await stopped;
    await b.fence();
    expect(await leases()).toEqual([key(4)]);
  });

  test('an agent paused while it took the lease starts over and finds the other holder', async () => {
    const { slow, go, waiting } = heldUp(1);
    const taking = takeLease(agent('a', { destination: slow }));
    const refused = expect(taking).rejects.toMatchObject({ code: 'LOCKED' });
    await waiting;
    const b = await takeLease(agent('b'));
    await b.fence();
    go();
    await refused;
    await b.fence();
  });
});

describe('a key that may not delete', () => {
  beforeEach(() => {
    const local = destination;
    destination = {
      ...local,
      async *list(prefix, options) {
        for await (const object of local.list(prefix, options))
          yield {
            ...object,
            version: createHash('md5')
              .update(readFileSync(join(root, object.key)))
              .digest('hex'),
          };
      },
    };
  });

  /** A server that checks versions, ignores them, or replaces nothing. */
  const keeping = (checksVersions: boolean | 'never fits'): ReplacingDestination => ({
    ...destination,
    // The answers of a server are remembered by its name.
    name: `${root} ${checksVersions}`,
    delete: (name) => Promise.reject(new LifeboatError('DELETE_REFUSED', `${name} stays`)),
    async replace(name, content, version) {
      for await (const object of destination.list('shop/leases/')) {
        if (object.key !== name || (checksVersions && object.version !== version)) continue;
        if (checksVersions === 'never fits') return false;
        writeFileSync(join(root, name), content);
        return true;
      }
      return false;
    },
  });

  test('leaves two objects, however many runs there are, and later holders inherit the claim', async () => {
    for (let run = 1; run <= 5; run++) {
      const lease = await takeLease(agent(run % 2 === 0 ? 'a' : 'b', { destination: keeping(true) }));
      expect(lease.claimed).toBe(run - 1);
      await lease.fence(run);
      await expect(takeLease(agent('c', { destination: keeping(true) }))).rejects.toMatchObject({ code: 'LOCKED' });
      await lease.fence();
      await lease.release();
    }
    expect(await leases()).toEqual([key(1), key(2)]);
    // A key that may delete removes the older one.
    const lease = await takeLease(agent('d'));
    expect(lease.claimed).toBe(5);
    expect(await leases()).toEqual([key(3)]);
  });

  test.each([false, 'never fits'] as const)(
    'puts the next number if the server does not check versions (%s)',
    async (how) => {
      for (let run = 1; run <= 3; run++) {
        const lease = await takeLease(agent('a', { destination: keeping(how) }));
        await lease.fence(run);
        await lease.release();
      }
      expect(await leases()).toHaveLength(9);
      expect((await takeLease(agent('a', { destination: keeping(how) }))).claimed).toBe(3);
    },
  );

  test('holds the lease if each write of an object gives it another version, as with encryption by the server', async () => {
    let writes = 0;
    const versions = new Map<string, string>();
    const encrypting = (): ReplacingDestination => ({
      ...keeping(true),
      name: `${root} encrypting`,
      async *list(prefix, options) {
        for await (const object of destination.list(prefix, options))
          yield { ...object, version: versions.get(object.key) ?? object.version ?? '' };
      },
      async replace(name, content, version) {
        for await (const object of this.list('shop/leases/')) {
          if (object.key !== name || object.version !== version) continue;
          writeFileSync(join(root, name), content);
          versions.set(name, `version ${++writes}`);
          return true;
        }
        return false;
      },
    });
    for (let run = 1; run <= 3; run++) {
      const lease = await takeLease(agent('a', { destination: encrypting() }));
      await lease.fence(run);
      await lease.fence(run + 1);
      await lease.release();
    }
    expect(writes).toBeGreaterThan(0);
    expect(await leases()).toEqual([key(1), key(2)]);
  });

  test('still holds a lease that it has replaced before the listing failed', async () => {
    await (await takeLease(agent('a', { destination: keeping(true) }))).release();
    let isDown = false;
    const failing: ReplacingDestination = {
      ...keeping(true),
      async *list(prefix, options) {
        if (isDown) throw new LifeboatError('DEST_UNREACHABLE', 'no answer');
        yield* destination.list(prefix, options);
      },
    };
    const lease = await takeLease(agent('a', { destination: failing }));
    await lease.fence(1);
    isDown = true;
    await expect(lease.fence(2)).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
    isDown = false;
    await lease.fence(3);
    clocks = { a: NOON + LEASE_MS, b: NOON + LEASE_MS };
    expect((await takeLease(agent('b', { destination: keeping(true) }))).claimed).toBe(3);
    await expect(lease.fence(4)).rejects.toMatchObject({ code: 'LEASE_LOST' });
  });

  test.each([true, false])('stops a holder that was paused (the other agent replaces: %s)', async (replaces) => {
    await (await takeLease(agent('a', { destination: keeping(true) }))).release();
    const a = await takeLease(agent('a', { destination: keeping(true) }));
    await a.fence();
    clocks = { a: NOON + LEASE_MS, b: NOON + LEASE_MS };
    const b = await takeLease(agent('b', replaces ? { destination: keeping(true) } : {}));
    await expect(a.fence()).rejects.toMatchObject({ code: 'LEASE_LOST', message: expect.stringContaining('of b') });
    await b.fence();
  });

  test('stops a holder that puts the next number after another agent has replaced its lease', async () => {
    await (await takeLease(agent('a', { destination: keeping(true) }))).release();
    const mayDelete = { ...destination, delete: async () => {} };
    const a = await takeLease(agent('a', { destination: mayDelete }));
    clocks = { a: NOON + LEASE_MS, b: NOON + LEASE_MS };
    const b = await takeLease(agent('b', { destination: keeping(true) }));
    await b.fence(7);
    await expect(a.fence(7)).rejects.toMatchObject({ code: 'LEASE_LOST' });
    await expect(b.fence()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    clocks.b = NOON + 2 * LEASE_MS;
    expect((await takeLease(agent('b'))).claimed).toBe(7);
  });

  test('hides no claim from an agent that was paused while it took the lease', async () => {
    await (await takeLease(agent('a', { destination: keeping(true) }))).release();
    const a = await takeLease(agent('a', { destination: keeping(true) }));
    await a.fence();
    clocks.b = NOON + LEASE_MS;
    const last = Number((await leases()).at(-1)?.match(/\d+/)?.[0]);
    const { slow, go, waiting } = heldUp(last + 1);
    const taking = takeLease(agent('b', { destination: slow }));
    await waiting;
    await a.fence(9);
    go();
    expect((await taking).claimed).toBe(9);
    await expect(a.fence()).rejects.toMatchObject({ code: 'LEASE_LOST' });
  });
});

describe('the sequences of manifests', () => {
  test('are claimed by a fence, and later holders inherit the claim', async () => {
    const a = await takeLease(agent('a'));
    expect(a.claimed).toBe(0);
    await a.fence(7);
    await a.fence();
    clocks = { a: NOON + LEASE_MS, b: NOON + LEASE_MS };
    const b = await takeLease(agent('b'));
    expect(b.claimed).toBe(7);
    await b.release();
    expect((await takeLease(agent('a'))).claimed).toBe(7);
  });

  test("the holder's requests abort when it has lost the lease", async () => {
    const a = await takeLease(agent('a'));
    const signal = (await a.fence()) as AbortSignal;
    expect(signal.aborted).toBe(false);
    clocks.b = NOON + LEASE_MS;
    await takeLease(agent('b'));
    await expect(a.fence()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    expect(signal.reason).toMatchObject({ code: 'LEASE_LOST' });
  });

  test('they abort when the lease expires; a lease that nobody took over continues', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const a = await takeLease(agent('a'));
      const signal = (await a.fence()) as AbortSignal;
      vi.advanceTimersByTime(LEASE_MS - 1);
      expect((await a.fence())?.aborted).toBe(false);
      vi.advanceTimersByTime(LEASE_MS - 1);
      expect(signal.aborted).toBe(false);
      vi.advanceTimersByTime(1);
      expect(signal.reason).toMatchObject({ code: 'LEASE_LOST' });
      expect((await a.fence())?.aborted).toBe(false);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('wrong clocks', () => {
  test('a year fast: the lease is taken over, and its holder stops', async () => {
    const a = await takeLease(agent('a'));
    clocks.b = NOON + YEAR;
    const b = await takeLease(agent('b'));
    await expect(a.fence()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    await b.fence();
    // By the right clock the lease is valid for a year. A release does not depend on clocks.
    await expect(takeLease(agent('a'))).rejects.toMatchObject({ code: 'LOCKED' });
    await b.release();
    await takeLease(agent('a'));
  });

  test('a year slow: the agent waits and takes no held lease', async () => {
    const a = await takeLease(agent('a'));
    clocks.b = NOON - YEAR;
    await expect(takeLease(agent('b'))).rejects.toMatchObject({ code: 'LOCKED' });
    await a.fence();
  });

  test('an end a year ahead is limited to the length of a lease; a live holder keeps its lease', async () => {
    clocks.a = NOON + YEAR;
    const a = await takeLease(agent('a'));
    await expect(takeLease(agent('b'))).rejects.toMatchObject({ code: 'LOCKED' });
    clocks.b = NOON + LEASE_MS - 1;
    await a.fence();
    await expect(takeLease(agent('b'))).rejects.toMatchObject({ code: 'LOCKED' });
    clocks.b = NOON + LEASE_MS;
    await expect(takeLease(agent('b'))).rejects.toMatchObject({ code: 'LOCKED' });
    clocks.b = NOON + 2 * LEASE_MS;
    await takeLease(agent('b'));
    await expect(a.fence()).rejects.toMatchObject({ code: 'LEASE_LOST' });
  });

  test('the limit applies across processes, and LOCKED names the real end', async () => {
    clocks.a = NOON + YEAR;
    await takeLease(agent('a'));
    const locked = { code: 'LOCKED', hint: expect.stringContaining(new Date(NOON + LEASE_MS).toISOString()) };
    await expect(takeLease(agent('b'))).rejects.toMatchObject(locked);
    const afresh = async () => {
      vi.resetModules();
      return import('../../../src/store/repository/lease.ts');
    };
    clocks.b = NOON + LEASE_MS - 1;
    await expect((await afresh()).takeLease(agent('b'))).rejects.toMatchObject(locked);
    expect(await (await afresh()).isLeasedToOther(agent('b'))).toBe(true);
    // After a clock was set back, the wait restarts, and never exceeds the length of a lease.
    clocks.b = NOON - YEAR;
    await expect((await afresh()).takeLease(agent('b'))).rejects.toMatchObject({ code: 'LOCKED' });
    clocks.b = NOON - YEAR + LEASE_MS;
    expect(await (await afresh()).isLeasedToOther(agent('b'))).toBe(false);
    await (await afresh()).takeLease(agent('b'));
  });

  test('the limit applies within one process if the state cannot be written', async () => {
    clocks.a = NOON + YEAR;
    await takeLease(agent('a'));
    const fail = () => Promise.reject(new Error('no space left'));
    const sightings = { leaseSighting: fail, saveLeaseSighting: fail };
    await expect(takeLease(agent('b', { sightings }))).rejects.toMatchObject({ code: 'LOCKED' });
    clocks.b = NOON + LEASE_MS;
    await takeLease(agent('b', { sightings }));
  });

  test('a clock set while the lease is held: the holder continues', async () => {
    const a = await takeLease(agent('a'));
    for (const jump of [YEAR, -YEAR, 0]) {
      clocks.a = NOON + jump;
      await a.fence();
    }
  });
});

describe('unusual destinations', () => {
  test('a put whose response is lost counts', async () => {
    let lose = true;
    const lossy: Destination = {
      ...destination,
      async put(name, body, options) {
        const stored = await destination.put(name, body, options);
        if (!lose || name !== key(2)) return stored;
        lose = false;
        throw new LifeboatError('DEST_UNREACHABLE', 'no answer');
      },
    };
    const a = await takeLease(agent('a', { destination: lossy }));
    await expect(a.fence()).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
    await a.fence();
    expect(await leases()).toEqual([key(3)]);
  });

  test('a destination that forbids deletions keeps all leases, and the newest counts', async () => {
    const kept: Destination = { ...destination, delete: async () => Promise.reject(new Error('no right')) };
    const a = await takeLease(agent('a', { destination: kept }));
    await a.fence();
    await a.release();
    expect(await leases()).toHaveLength(3);
    await takeLease(agent('b', { destination: kept }));
    await expect(takeLease(agent('a'))).rejects.toMatchObject({ code: 'LOCKED' });
  });

  test('a server that replaces objects: the agent whose number was replaced does not hold the lease', async () => {
    const replaced: Destination = {
      ...destination,
      async put(name, body, options) {
        const stored = await destination.put(name, body, options);
        if (name !== key(1)) return stored;
        // The other agent's put of the same number arrives right after and is not refused.
        await destination.delete(name);
        await takeLease(agent('b'));
        return stored;
      },
    };
    await expect(takeLease(agent('a', { destination: replaced }))).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining('container of b'),
    });
  });

  test('a full destination is pruned once without a lease, but not while another agent holds it', async () => {
    let full = true;
    const small: Destination = {
      ...destination,
      put: (...args) => {
        if (full) throw new LifeboatError('DEST_FULL', 'full');
        return destination.put(...args);
      },
    };
    const take = () => takeLeaseOnceThereIsRoom(() => takeLease(agent('a', { destination: small })));
    const never = await take();
    await never.fence();
    await expect(never.fence()).rejects.toMatchObject({ code: 'DEST_FULL' });
    const later = await take();
    await later.fence();
    full = false;
    await later.fence();
    expect(await leases()).toEqual([key(1)]);
    await later.release();
    await takeLease(agent('b'));
    full = true;
    await expect(take()).rejects.toMatchObject({ code: 'LOCKED' });
  });

  test('an object that is not a lease binds nobody', async () => {
    await destination.put(key(7), streamOf('{'));
    await destination.put('shop/leases/notes.txt', streamOf('mine'));
    const a = await takeLease(agent('a'));
    await a.release();
    expect(await leases()).toEqual([key(9), 'shop/leases/notes.txt']);
  });
});

test('the newest lease is the one with the highest number, in whatever order a server lists them', async () => {
  const turned: Destination = {
    ...destination,
    async *list(prefix) {
      const objects: ObjectInfo[] = [];
      for await (const object of destination.list(prefix)) objects.unshift(object);
      yield* objects;
    },
  };
  const first = await takeLease(agent('a', { destination: turned }));
  await expect(takeLease(agent('b', { destination: turned }))).rejects.toMatchObject({ code: 'LOCKED' });
  await first.fence();
  await first.fence();
  await first.release();
  const second = await takeLease(agent('b', { destination: turned }));
  await second.release();
});
