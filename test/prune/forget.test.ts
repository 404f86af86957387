import { beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Call } from '../../src/commands/call.ts';
import { forget } from '../../src/commands/forget.ts';
import type { Destination } from '../../src/destinations/destination.ts';
import { type ForgetDeps, findUnreadable, forgetUnreadable } from '../../src/prune/forget.ts';
import { type Manifest, manifestKey } from '../../src/store/objects/manifest.ts';
import { nextPlace, readChain } from '../../src/store/repository/chain.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { putPin, readPins } from '../../src/store/repository/pins.ts';
import type { Repository, Snapshot } from '../../src/store/repository/repository.ts';
import { placeOf, type SeenChain } from '../../src/store/repository/seen-chain.ts';
import { tombstoneKey } from '../../src/store/repository/tombstones.ts';
import { inMemory } from '../store/memory-destination.ts';

/** Giving up snapshots whose manifests cannot be read. */

let objects: Map<string, string>;
let destination: Destination;
let repository: Repository;
let seen: SeenChain | undefined;
let fences: number;

const open = (signingKeys?: string[], at = destination) =>
  openRepository(at, {
    ...{ project: 'shop', create: true, keys: {}, seen: async () => seen },
    ...(signingKeys ? { signingKeys } : {}),
  });
beforeEach(async () => {
  objects = new Map();
  destination = inMemory('memory', objects);
  repository = await open();
  seen = undefined;
  fences = 0;
});

const idOf = (day: number) => `202611${String(day).padStart(2, '0')}T030000Z-aaaaaa`;
const key = (day: number) => manifestKey('shop', idOf(day));

/** Commits one snapshot on each of these days. */
async function nights(...days: number[]): Promise<Snapshot[]> {
  const all: Snapshot[] = [];
  for (const day of days) {
    const place = await nextPlace(repository, await repository.snapshots());
    const start = `2026-11-${String(day).padStart(2, '0')}T03:00:00.000Z`;
    const run = { start, end: start, trigger: 'schedule', agentVersion: '0.1.0', status: 'ok' } as const;
    const manifest: Manifest = { format: 1, id: idOf(day), project: 'shop', ...run, ...place, sources: {} };
    all.push(await repository.commit(manifest));
  }
  return all;
}

const damage = (day: number, how = (text: string) => text.slice(0, 50)) =>
  objects.set(key(day), how(objects.get(key(day)) as string));

const deps = (over: Partial<ForgetDeps> = {}): ForgetDeps => ({
  lock: async () => ({ release: async () => undefined }) as never,
  recover: async () => undefined,
  repository: async () => repository,
  lease: async () => ({ fence: async () => void fences++, release: async () => undefined }) as never,
  state: { chain: async () => seen },
  now: () => new Date('2026-11-28T12:00:00Z'),
  ...over,
});

/** Expects that nothing is wrong with the chain, and that the next snapshot continues it. */
async function expectSound() {
  const { snapshots, damaged } = await repository.snapshots();
  expect(damaged).toEqual([]);
  expect((await readChain(repository, snapshots)).findings).toEqual([]);
  await nights(29);
  const after = await repository.snapshots();
  expect((await readChain(repository, after.snapshots)).findings).toEqual([]);
  const sequences = after.snapshots.map(({ manifest }) => manifest.sequence);
  expect(new Set(sequences).size).toBe(sequences.length);
}

describe.each(['the agent has seen', 'nobody has seen'])('a manifest that %s', (who) => {
  const remember = async () => {
    if (who === 'the agent has seen') seen = (await repository.snapshots()).snapshots.map(placeOf);
  };

  test.each([
    ['in the middle', [3]],
    ['the oldest', [1]],
    ['the newest', [5]],
    ['two in a row', [2, 3]],
    ['two in a row, the newer one first', [3, 2]],
    ['the two newest', [5, 4]],
    ['the two oldest', [2, 1]],
    ['two with one between', [2, 4]],
    ['all', [1, 2, 3, 4, 5]],
  ])('%s is given up, and the chain is sound', async (_, days) => {
    await nights(1, 2, 3, 4, 5);
    await remember();
    for (const day of days) damage(day);
    for (const day of days) {
      const found = await forgetUnreadable(deps(), idOf(day).slice(0, 12));
      expect(found).toMatchObject({ id: idOf(day), error: { code: 'OBJECT_DAMAGED' } });
      expect(objects.has(key(day))).toBe(false);
    }
    expect(fences).toBe(days.length);
    await expectSound();
  });

  test('is given up although snapshots were made since, which skip it', async () => {
    await nights(1, 2, 3);
    await remember();
    damage(3);
    await nights(4, 5);
    await forgetUnreadable(deps(), idOf(3));
    await expectSound();
  });
});

test('a manifest with a wrong or lost signature is given up, and the tombstone is signed', async () => {
  repository = await open(['the first signing key']);
  await nights(1, 2, 3);
  repository = await open(['the other signing key']);
  for (const day of [2, 1, 3]) {
    await expect(findUnreadable(repository, idOf(day))).resolves.toMatchObject({ error: { code: 'SIGNATURE_KEY' } });
    await forgetUnreadable(deps(), idOf(day));
    expect(objects.get(tombstoneKey('shop', idOf(day)))).toContain('"signature"');
  }
  await expectSound();
});

test('a pinned one is given up with its pin', async () => {
  await nights(1, 2);
  await putPin(repository, idOf(1), { reason: 'before the move', at: '2026-11-02T00:00:00.000Z' });
  damage(1);
  expect(await forgetUnreadable(deps(), idOf(1))).toMatchObject({ pinned: 'before the move' });
  expect(await readPins(repository)).toEqual(new Map());
  await expectSound();
});

describe('refuses, and changes nothing:', () => {
  const refused = async (name: string, error: Record<string, unknown>, over?: Partial<ForgetDeps>) => {
    const before = new Map(objects);
    await expect(forgetUnreadable(deps(over), name)).rejects.toMatchObject(error);
    expect(objects).toEqual(before);
  };

  test('a manifest that can be read', async () => {
    await nights(1, 2);
    damage(1);
    await refused(idOf(2), { code: 'USAGE', hint: expect.stringContaining('lifeboat prune') });
  });

  test('a name that no snapshot has, or several', async () => {
    await nights(1, 2);
    damage(1);
    for (const name of ['', '2025', 'latest', '202611']) await refused(name, { code: 'SNAPSHOT_UNKNOWN' });
  });

  test('a manifest that is gone', async () => {
    seen = (await nights(1, 2)).map(placeOf);
    objects.delete(key(1));
    await refused(idOf(1), { code: 'CHAIN_BROKEN', hint: expect.stringContaining('lifeboat accept destination') });
  });

  test('a manifest of a newer version, one in an archive, and one that may not be read', async () => {
    await nights(1, 2, 3);
    damage(1, (text) => text.replace('"format":1', '"format":99'));
    await refused(idOf(1), { code: 'FORMAT_UNSUPPORTED', message: expect.stringContaining('may be intact') });
    for (const [code, cause] of [
      ['OBJECT_ARCHIVED', undefined],
      ['DEST_UNREACHABLE', Object.assign(new Error('EACCES'), { code: 'EACCES' })],
    ] as const) {
      const withheld: Destination = {
        ...destination,
        get: (name, options) =>
          name === key(2)
            ? Promise.reject(new LifeboatError(code, 'not now', { cause, hint: 'Wait.' }))
            : destination.get(name, options),
      };
      const repositoryOf = async () => repository.through(withheld);
      await refused(idOf(2), { code, hint: 'Wait.' }, { repository: repositoryOf });
    }
  });

  test('a destination that lets nothing be deleted', async () => {
    await nights(1, 2);
    damage(1);
    const keeps: Destination = {
      ...destination,
      delete: async (name) => {
        if (name.includes('/snapshots/')) throw new LifeboatError('DELETE_REFUSED', 'locked');
        return destination.delete(name);
      },
    };
    await refused(idOf(1), { code: 'DELETE_REFUSED' }, { repository: async () => repository.through(keeps) });
  });

  test('a lease that is lost', async () => {
    await nights(1, 2);
    damage(1);
    const lost = async () => {
      throw new LifeboatError('LEASE_LOST', 'taken over');
    };
    const lease = async () => ({ fence: lost, release: async () => undefined }) as never;
    await refused(idOf(1), { code: 'LEASE_LOST' }, { lease });
  });
});

describe('the command', () => {
  let printed: string;
  const call = (options: Record<string, unknown>, copies: unknown[] = []) => {
    printed = '';
    const show = (text: string) => {
      printed += text;
    };
    const io = {
      ...{ out: show, err: show },
      ...{ stdin: {}, signal: AbortSignal.timeout(10_000) },
    };
    const app = {
      settings: { unattendedRestore: true },
      repository: async () => repository,
      copies,
      forgetUnreadable: (id: string) => forgetUnreadable(deps(), id),
    };
    return forget({ app, operands: [idOf(1)], options, io, json: false } as unknown as Call);
  };

  test('shows what it would give up, asks, and does it', async () => {
    await nights(1, 2);
    const copy = inMemory('copy', new Map(objects));
    damage(1);
    expect(await call({ dryRun: true })).toBe(0);
    expect(printed).toContain('No copy is known to have its manifest.');
    await expect(call({})).rejects.toMatchObject({ code: 'NOT_CONFIRMED' });
    expect(objects.has(key(1))).toBe(true);
    const places = [
      { name: '/nas', open: () => open(undefined, copy) },
      { name: '/gone', open: () => Promise.reject(new LifeboatError('DEST_UNREACHABLE', 'gone')) },
    ];
    expect(await call({ dryRun: true }, places)).toBe(0);
    expect(printed).toContain('`lifeboat copy --from /nas` brings it back');
    expect(printed).toContain('These copies cannot be asked now: /gone');
    expect(objects.has(key(1))).toBe(true);
    expect(await call({ yes: true }, places)).toBe(0);
    expect(printed).toContain(`Gave up ${idOf(1)}`);
    expect(objects.has(key(1))).toBe(false);
    await expectSound();
  });
});
