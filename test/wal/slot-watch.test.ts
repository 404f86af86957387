import { afterEach, describe, expect, test, vi } from 'vitest';
import { parseDf } from '../../src/sources/postgres/facts/disk.ts';
import type { SlotState } from '../../src/sources/postgres/wal/slot.ts';
import { isSpent, judgeSlot, Progress, positions } from '../../src/wal/slot-watch.ts';
import { isAtLimit } from '../../src/wal/spool-limit.ts';

const GIB = 1024 ** 3;
const disk = (total: number, free = total) => ({ total: total * GIB, free: free * GIB });

/** A slot for which the server keeps `kept` GiB of WAL. */
const state = (kept: number, slot: Partial<NonNullable<SlotState['slot']>> = {}): SlotState => {
  const flushed = BigInt(Math.round(kept * GIB)) + 100n;
  const position = { inserting: flushed, flushed, timeline: 1, at: '2026-11-20T03:00:00.000Z' };
  return { ...position, slot: { active: true, kept: 100n, received: 100n, status: 'extended', ...slot } };
};

describe('the WAL that a server keeps for a slot', () => {
  test.each<[string, SlotState, ReturnType<typeof disk> | undefined, 'alarm' | 'drop' | undefined]>([
    ['little on a large disk', state(2), disk(500), undefined],
    ['half of 5 GiB on a large disk', state(2.5), disk(500), 'alarm'],
    ['5 GiB on a large disk', state(5), disk(500), 'drop'],
    ['half of a tenth of a small disk', state(0.5), disk(10), 'alarm'],
    ['a tenth of a small disk', state(1), disk(10), 'drop'],
    ['5 GiB on a disk of unknown size', state(5), undefined, 'drop'],
    ['little on a full disk: other data fills it', state(0.01), disk(10, 0.1), undefined],
    ['a part of a disk that is nearly full', state(0.2), disk(10, 0.4), 'drop'],
    ['much where the server drops it later', state(20, { safe: 40 * GIB }), disk(500), undefined],
    ['much where the server drops it soon', state(20, { safe: 5 * GIB }), disk(500), 'alarm'],
    ['what the server drops at the next checkpoint', state(20, { safe: -1, status: 'unreserved' }), disk(500), 'alarm'],
    ['much where the server drops it later, on a full disk', state(20, { safe: 40 * GIB }), disk(500, 10), 'drop'],
  ])('%s', (_, slot, space, level) => {
    expect(judgeSlot(slot, space)?.level).toBe(level);
  });

  test('of a slot that does not exist is no danger', () => {
    const { slot: _, ...none } = state(10);
    expect(judgeSlot(none, disk(10))).toBeUndefined();
  });

  test('is lost once the server removed it', () => {
    expect(isSpent(state(1))).toBe(false);
    expect(isSpent(state(1, { status: 'lost' }))).toBe(true);
    const { kept: _, ...slot } = state(1).slot as NonNullable<SlotState['slot']>;
    expect(isSpent({ ...state(1), slot })).toBe(true);
  });

  test('begins where the slot does, however far the receiver is', () => {
    expect(positions(state(1, { received: 100n + BigInt(GIB) })).kept).toBe(GIB);
  });
});

test.each<[string, number, ReturnType<typeof disk>, boolean]>([
  ['little', 0.2, disk(10), false],
  ['a tenth of the disk', 1, disk(10), true],
  ['5 GiB', 5, disk(500), true],
  ['a part on a disk that is nearly full', 0.2, disk(10, 0.4), true],
  ['little on a disk that is nearly full', 0.05, disk(10, 0.4), false],
])('the WAL in the spool: %s', (_, size, space, isFull) => {
  expect(isAtLimit(size * GIB, space)).toBe(isFull);
});

describe('the progress of a receiver', () => {
  afterEach(() => vi.restoreAllMocks());

  /** Checks states at these seconds. Returns whether the receiver still counts as working. */
  const check = (...states: [number, SlotState][]): boolean => {
    let clock = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => clock * 1000);
    const progress = new Progress();
    try {
      for (const [at, one] of states) {
        clock = at;
        progress.check(one);
      }
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: 'PG_STALLED' });
      return false;
    }
  };
  const at = (flushed: bigint, received: bigint): SlotState => ({ ...state(0, { received }), flushed });

  test('is what its files hold: the slot stays at the beginning of a segment for hours', () => {
    expect(check([0, at(200n, 200n)], [40, at(300n, 300n)], [80, at(400n, 400n)])).toBe(true);
  });

  test('is none while the server writes and the files do not grow', () => {
    expect(check([0, at(200n, 200n)], [1, at(300n, 200n)], [40, at(400n, 200n)])).toBe(false);
  });

  test('is complete on a server that writes nothing', () => {
    expect(check([0, at(200n, 200n)], [3600, at(200n, 200n)])).toBe(true);
  });
});

test.each([
  ['/dev/vda1 41152812 8190000 31200000 21% /var/lib/postgresql/data', { total: 41152812, free: 31200000 }],
  ['overlay 100 90 10 90% /', { total: 100, free: 10 }],
  ['name with spaces 100 90 10 90% /mnt/a b', { total: 100, free: 10 }],
])('df: %s', (line, { total, free }) => {
  const table = `Filesystem 1024-blocks Used Available Capacity Mounted on\n${line}\n`;
  expect(parseDf(table)).toEqual({ total: total * 1024, free: free * 1024 });
});

test('df: an unknown output says nothing', () => {
  expect(parseDf('df: no such file')).toBeUndefined();
});
