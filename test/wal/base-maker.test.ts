import { setImmediate } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { BaseSource } from '../../src/plan/model.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import type { Base, Window } from '../../src/store/wal/windows.ts';
import { BaseMaker, needsBase } from '../../src/wal/base-maker.ts';
import { WalBench } from '../store/wal/bench.ts';

const window = {
  systemId: '1',
  timeline: 1,
  toLsn: '0/9000000',
  from: '',
  to: '',
  bases: [],
  forks: [],
} satisfies Window;

const base = (snapshot: string, fields: Partial<Base> = {}): Base => ({
  ...{ snapshot, systemId: '1', timeline: 1, startLsn: '0/1000028', stopLsn: '0/1000100' },
  ...{ stopTime: '2026-11-20T03:00:00.000Z', ...fields },
});
const leading = (bases: Base[], fields: Partial<Window> = {}): Window => ({ ...window, bases, ...fields });

test('a base backup leads to the end of the stored WAL only on the same timeline of the same server', () => {
  const stored = 0x900_0000n;
  const one = [base('one')];
  const needed = (end: { systemId: string; timeline: number; stored: bigint }) => needsBase([leading(one)], one, end);
  expect(needed({ systemId: '1', timeline: 1, stored })).toBe(false);
  expect(needed({ systemId: '1', timeline: 1, stored: stored + 1n })).toBe(true);
  // A recovery in place took the server back to a lower position.
  expect(needed({ systemId: '1', timeline: 2, stored: 0x500_0000n })).toBe(true);
  expect(needed({ systemId: '2', timeline: 1, stored: 0x500_0000n })).toBe(true);
  expect(needsBase([], [], { systemId: '1', timeline: 1, stored })).toBe(true);
});

test('after a recovery to before newer base backups, one is made at once, although an older one leads there', () => {
  const [old, behind] = [base('old'), base('behind', { stopLsn: '0/7000100' })];
  const present = { systemId: '1', timeline: 2, stored: 0x500_0000n };
  const windows = [leading([old, behind]), leading([old], { timeline: 2, toLsn: '0/5000000' })];
  expect(needsBase(windows, [old, behind], present)).toBe(true);
  const made = base('made', { timeline: 2, startLsn: '0/4000028', stopLsn: '0/4000100' });
  const now = [leading([old, behind]), leading([old, made], { timeline: 2, toLsn: '0/5000000' })];
  expect(needsBase(now, [old, behind, made], present)).toBe(false);
  // Base backups of another server or history say nothing.
  expect(needsBase(now, [old, behind, made, base('other', { systemId: '2' })], present)).toBe(false);
  expect(needsBase(now, [{ ...made, era: 5 }, base('former', { era: 1 })], { ...present, era: 5 })).toBe(false);
});

test('a base backup by a clock that was ahead does not make others needed for ever', () => {
  const present = { systemId: '1', timeline: 2, stored: 0x500_0000n };
  const ahead = base('ahead', { stopLsn: '0/7000100', stopTime: '2027-01-01T00:00:00.000Z' });
  const made = base('made', { timeline: 2, startLsn: '0/4000028', stopLsn: '0/4000100' });
  const windows = [leading([ahead]), leading([made], { timeline: 2, toLsn: '0/5000000' })];
  expect(needsBase(windows, [made, ahead], present)).toBe(false);
  expect(needsBase(windows, [made, ahead], { ...present, stored: 0x400_0000n })).toBe('later');
});

test('while the WAL of the newest base backup is not stored, none is made', () => {
  const made = base('made', { stopLsn: '0/5000100' });
  expect(needsBase([], [made], { systemId: '1', timeline: 1, stored: 0x500_0000n })).toBe('later');
  expect(needsBase([], [made], { systemId: '1', timeline: 1, stored: 0x500_0100n })).toBe(true);
});

afterEach(() => vi.restoreAllMocks());

test.each<[string, () => Promise<boolean>, number[]]>([
  ['another run is under way', async () => false, [0, 10, 20, 30]],
  ['it fails', () => Promise.reject(new Error('no')), [0, 60, 180, 420]],
])('while %s, a base backup is tried again at these seconds', async (_, makeBase, expected) => {
  let clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => clock * 1000);
  const { signal } = new AbortController();
  const tried: number[] = [];
  const empty = { ...new WalBench().repository, snapshots: async () => ({ snapshots: [], damaged: [] }) };
  const maker = new BaseMaker(
    {
      repository: async () => empty as unknown as Repository,
      makeBase() {
        tried.push(clock);
        return makeBase();
      },
      log: silentLog,
    },
    { server: 'db.postgres', name: 'db.postgres.base' } as BaseSource,
  );
  for (; tried.length < expected.length && clock < 1000; clock++) {
    // A receiver that starts over asks for a base backup each time.
    maker.want();
    await maker.provide({ systemId: '1', timeline: 1, stored: 1n }, { read: signal, make: signal });
    await maker.ended();
    await setImmediate();
  }
  expect(tried).toEqual(expected);
});

test('the end of the connection ends the reads before a base backup, and not the base backup', async () => {
  const [connection, whole] = [new AbortController(), new AbortController()];
  let making: AbortSignal | undefined;
  let reading: AbortSignal | undefined;
  const repository = {
    ...new WalBench().repository,
    async snapshots(signal: AbortSignal) {
      reading = signal;
      return { snapshots: [], damaged: [] };
    },
  };
  const maker = new BaseMaker(
    {
      repository: async () => repository as unknown as Repository,
      makeBase: async (_, __, signal) => {
        making = signal;
        return true;
      },
      log: silentLog,
    },
    { server: 'db.postgres', name: 'db.postgres.base' } as BaseSource,
  );
  const signals = { read: connection.signal, make: whole.signal };
  await maker.provide({ systemId: '1', timeline: 1, stored: 1n }, signals);
  await maker.ended();
  connection.abort();
  expect([reading?.aborted, making?.aborted]).toEqual([true, false]);
  // A connection that has ended makes no base backup.
  const late = new BaseMaker(
    { repository: async () => repository as unknown as Repository, makeBase: () => expect.fail(), log: silentLog },
    { server: 'db.postgres', name: 'db.postgres.base' } as BaseSource,
  );
  await expect(late.provide({ systemId: '1', timeline: 1, stored: 1n }, signals)).rejects.toThrow();
});

/** Lets a base maker look at a repository. `make`: called when it wants a base backup. */
async function provideWith(repository: object, make: (isNeeded: () => Promise<boolean>) => Promise<void>) {
  const { signal } = new AbortController();
  const maker = new BaseMaker(
    {
      repository: async () => repository as unknown as Repository,
      async makeBase(_, isNeeded) {
        await make(isNeeded);
        return true;
      },
      log: silentLog,
    },
    { server: 'db.postgres', name: 'db.postgres.base' } as BaseSource,
  );
  await maker.provide({ systemId: '1', timeline: 1, stored: 0x500_0000n }, { read: signal, make: signal });
  await maker.ended();
}

test('a base backup is not needed any more once another run has made one while this one waited', async () => {
  const held: object[] = [];
  const repository = {
    ...new WalBench().repository,
    snapshots: async () => ({ snapshots: held.map((manifest) => ({ manifest })), damaged: [] }),
  };
  const answers: boolean[] = [];
  await provideWith(repository, async (isNeeded) => {
    answers.push(await isNeeded());
    const { snapshot: id, ...entry } = base('manual', { stopLsn: '0/5000100' });
    held.push({ id, sources: { 'db.postgres.base': { status: 'ok', base: entry } } });
    answers.push(await isNeeded());
  });
  expect(answers).toEqual([true, false]);
});

test('a run whose question nobody answers goes on, and reports what it meets', async () => {
  let isAway = false;
  const repository = {
    ...new WalBench().repository,
    snapshots: async () => {
      if (isAway) throw new Error('away');
      return { snapshots: [], damaged: [] };
    },
  };
  const answers: boolean[] = [];
  await provideWith(repository, async (isNeeded) => {
    isAway = true;
    answers.push(await isNeeded());
  });
  expect(answers).toEqual([true]);
});
