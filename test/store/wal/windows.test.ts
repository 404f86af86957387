import { describe, expect, test } from 'vitest';
import type { StoredWal } from '../../../src/store/wal/coverage.ts';
import { formatLsn, segmentName, startOf } from '../../../src/store/wal/names.ts';
import {
  type Base,
  holesOf,
  nearestTimes,
  rivalsOf,
  startOfRecovery,
  windowsOf,
} from '../../../src/store/wal/windows.ts';

const SIZE = 16 * 1024 * 1024;
const SYSTEM = '7713464397883531290';

/** A time of the day of the tests: `at(90)` is 01:30. */
const at = (minutes: number) => new Date(Date.UTC(2026, 10, 20, 0, minutes)).toISOString();

/** Segments of a timeline. Each ends ten minutes after the one before: segment 3 at 00:30. */
const segments = (timeline: number, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => ({
    name: segmentName({ timeline, number: from + i }, SIZE),
    reached: at((from + i) * 10),
  }));

const wal = (fields: Partial<StoredWal> = {}): StoredWal => ({
  systemId: SYSTEM,
  segmentSize: SIZE,
  segments: [],
  partials: [],
  histories: new Map(),
  gaps: [],
  ...fields,
});

/** A base backup that begins at the start of a segment and ends in its middle. */
const base = (number: number, fields: Partial<Base> = {}): Base => ({
  snapshot: `base-${number}`,
  systemId: SYSTEM,
  timeline: 1,
  startLsn: formatLsn(startOf(number, SIZE) + 40n),
  stopLsn: formatLsn(startOf(number, SIZE) + 4096n),
  stopTime: at(number * 10 - 5),
  ...fields,
});

const spans = (found: ReturnType<typeof windowsOf>) => found.map(({ from, to, timeline }) => [from, to, timeline]);

describe('a window', () => {
  test('reaches from the end of a base backup to the end of the stored WAL', () => {
    const [window] = windowsOf(wal({ segments: segments(1, 2, 6) }), [base(3)]);
    expect(window).toMatchObject({ from: at(25), to: at(60), toLsn: formatLsn(startOf(7, SIZE)) });
  });

  test('does not exist without a base backup, or without the WAL of the backup itself', () => {
    expect(windowsOf(wal({ segments: segments(1, 2, 6) }), [])).toEqual([]);
    expect(windowsOf(wal({ segments: segments(1, 4, 6) }), [base(3)])).toEqual([]);
    expect(windowsOf(wal(), [base(3)])).toEqual([]);
    expect(windowsOf(wal({ segments: segments(1, 2, 6) }), [base(3, { systemId: '1' })])).toEqual([]);
  });

  test('needs the part of the open segment in which the backup ended', () => {
    const open = (to: number) => ({ name: segmentName({ timeline: 1, number: 3 }, SIZE), to, reached: at(28) });
    expect(windowsOf(wal({ partials: [open(4095)] }), [base(3)])).toEqual([]);
    expect(spans(windowsOf(wal({ partials: [open(4096)] }), [base(3)]))).toEqual([[at(25), at(28), 1]]);
  });

  test('includes the open segment only if it follows the last complete one', () => {
    const stored = segments(1, 3, 5);
    const open = (number: number) => ({ name: segmentName({ timeline: 1, number }, SIZE), to: 100, reached: at(64) });
    expect(windowsOf(wal({ segments: stored, partials: [open(6)] }), [base(3)])[0]?.to).toBe(at(64));
    expect(windowsOf(wal({ segments: stored, partials: [open(7)] }), [base(3)])[0]?.to).toBe(at(50));
    expect(windowsOf(wal({ segments: stored, partials: [open(4)] }), [base(3)])[0]?.to).toBe(at(50));
  });

  test('lasts until the server was last known to have written nothing more', () => {
    const stored = wal({ segments: segments(1, 3, 5) });
    const confirmed = { timeline: 1, lsn: formatLsn(startOf(6, SIZE)), at: at(300) };
    expect(windowsOf({ ...stored, confirmed }, [base(3)])[0]?.to).toBe(at(300));
    const beyond = { timeline: 1, lsn: formatLsn(startOf(6, SIZE) + 1n), at: at(300) };
    expect(windowsOf({ ...stored, confirmed: beyond }, [base(3)])[0]?.to).toBe(at(50));
  });

  test('never goes back when the clock of the server was set back', () => {
    const [first, second, third] = segments(1, 3, 5);
    const stored = [first!, second!, { ...third!, reached: at(1) }];
    expect(windowsOf(wal({ segments: stored }), [base(3)])[0]?.to).toBe(at(40));
  });

  test('unites base backups that the same WAL follows', () => {
    const found = windowsOf(wal({ segments: segments(1, 3, 9) }), [base(3), base(6)]);
    expect(spans(found)).toEqual([[at(25), at(90), 1]]);
    expect(found[0]?.bases.map(({ snapshot }) => snapshot)).toEqual(['base-3', 'base-6']);
  });
});

describe('a missing segment', () => {
  const stored = [...segments(1, 2, 4), ...segments(1, 6, 12)];

  test('ends the window, and the next base backup opens another one', () => {
    const found = windowsOf(wal({ segments: stored }), [base(2), base(8)]);
    expect(spans(found)).toEqual([
      [at(15), at(40), 1],
      [at(75), at(120), 1],
    ]);
  });

  test('is a hole, with the recorded reason', () => {
    const found = windowsOf(wal({ segments: stored }), [base(2), base(8)]);
    const why = '1 segments of WAL were not received: the replication slot was gone';
    expect(holesOf(found, [{ at: at(62), timeline: 1, to: '0/6000000', why }])).toEqual([
      { from: at(40), to: at(75), why },
    ]);
    expect(holesOf(found, [])).toEqual([{ from: at(40), to: at(75), why: 'WAL of this time is not stored' }]);
  });

  test('before the base backup does not matter', () => {
    expect(spans(windowsOf(wal({ segments: stored }), [base(6)]))).toEqual([[at(55), at(120), 1]]);
  });
});

describe('timelines', () => {
  // Timeline 2 leaves timeline 1 in the middle of segment 5, and timeline 1 goes on to segment 7.
  const fork = { timeline: 1, until: startOf(5, SIZE) + 1000n };
  const histories = new Map([[2, [fork]]]);
  const both = wal({ segments: [...segments(1, 2, 7), ...segments(2, 5, 9)], histories });

  test('after a fork, both sides are windows', () => {
    const found = windowsOf(both, [base(2)]);
    // Timeline 1 ends at a lower position than timeline 2, and still has transactions that timeline 2 does not have.
    expect(found.map(({ timeline, toLsn }) => [timeline, toLsn])).toEqual([
      [1, formatLsn(startOf(8, SIZE))],
      [2, formatLsn(startOf(10, SIZE))],
    ]);
    const old = windowsOf({ ...both, segments: [...segments(1, 2, 12), ...segments(2, 5, 9)] }, [base(2)]);
    expect(old.map(({ timeline, to }) => [timeline, to])).toEqual([
      [1, at(120)],
      [2, at(90)],
    ]);
  });

  test('what ends before the fork belongs to the old side alone', () => {
    const cut = { ...both, segments: [...segments(1, 2, 3), ...segments(2, 5, 9)] };
    expect(windowsOf(cut, [base(2)]).map(({ timeline, to }) => [timeline, to])).toEqual([[1, at(30)]]);
  });

  test('a promotion at the end of the old side leaves one window', () => {
    const end = { name: segmentName({ timeline: 1, number: 5 }, SIZE), to: 1000, reached: at(51) };
    const promoted = { ...both, segments: [...segments(1, 2, 4), ...segments(2, 5, 9)], partials: [end] };
    expect(spans(windowsOf(promoted, [base(2)]))).toEqual([[at(15), at(90), 2]]);
  });

  test('the beginning of a segment that the old side never completed belongs to its window', () => {
    const left = { name: segmentName({ timeline: 1, number: 8 }, SIZE), to: 1000, reached: at(84) };
    expect(spans(windowsOf({ ...both, partials: [left] }, [base(2)]))).toEqual([
      [at(15), at(84), 1],
      [at(15), at(90), 2],
    ]);
  });

  test('a position that was confirmed on one timeline says nothing about another one', () => {
    const confirmed = { timeline: 2, lsn: formatLsn(startOf(7, SIZE)), at: at(300) };
    expect(windowsOf({ ...both, confirmed }, [base(2)]).map(({ to }) => to)).toEqual([at(70), at(300)]);
  });

  test('a base backup made after the fork on the old side does not lead to the new one', () => {
    expect(windowsOf(both, [base(6)]).map(({ timeline }) => timeline)).toEqual([1]);
  });

  test('two sides of a fork have the same WAL up to the fork, and the same times up to the segment before it', () => {
    expect(windowsOf(both, [base(2)]).map(({ timeline, forks }) => [timeline, forks])).toEqual([
      [1, [{ timeline: 2, lsn: formatLsn(fork.until), time: at(40), since: at(50) }]],
      [2, [{ timeline: 1, lsn: formatLsn(fork.until), time: at(40), since: at(50) }]],
    ]);
    // A base backup before the fork began at a time that both have.
    const begun = { ...base(5, { stopLsn: formatLsn(fork.until - 1n) }), startTime: at(46) };
    expect(windowsOf(both, [base(2), begun])[0]?.forks[0]?.time).toBe(at(46));
    const after = { ...base(6), startTime: at(59) };
    expect(windowsOf(both, [base(2), after])[0]?.forks[0]?.time).toBe(at(40));
  });

  test('a side of a fork is known to be in use from its first known time on, or from its first base backup on', () => {
    const sinceOf = (bases: Base[], fields: Partial<StoredWal> = {}) =>
      windowsOf({ ...both, ...fields }, bases).map(({ timeline, forks }) => [timeline, forks[0]?.since]);
    const undated = both.segments.map(({ name, reached }) =>
      name.startsWith('00000002') ? { name } : { name, reached },
    );
    expect(sinceOf([base(2)], { segments: undated })).toEqual([
      [1, at(50)],
      [2, undefined],
    ]);
    const begun = base(6, { timeline: 2, startTime: at(45) });
    expect(sinceOf([base(2), begun])).toEqual([
      [1, at(50)],
      [2, at(45)],
    ]);
  });

  test('a time before the server is known to write on a timeline may mean any that parted there, also if it has ended', () => {
    // Timeline 1 ended at 00:52. The server was recovered at 01:30 to 00:45.
    const idle = wal({
      segments: [
        ...segments(1, 2, 4),
        ...[5, 6].map((number) => ({
          name: segmentName({ timeline: 2, number }, SIZE),
          reached: at(30 + number * 12),
        })),
      ],
      partials: [{ name: segmentName({ timeline: 1, number: 5 }, SIZE), to: 2000, reached: at(52) }],
      histories,
    });
    const windows = windowsOf(idle, [base(2)]);
    const rivalsAt = (minute: number) => {
      const start = startOfRecovery(windows, new Date(at(minute)));
      return (
        start && [
          start.window.timeline,
          rivalsOf(start.window, windows, new Date(at(minute))).map((one) => one.timeline),
        ]
      );
    };
    expect(rivalsAt(39)).toEqual([2, []]);
    expect(rivalsAt(50)).toEqual([2, [1]]);
    expect(rivalsAt(80)).toEqual([2, [1]]);
    expect(rivalsAt(95)).toEqual([2, []]);
  });

  test('two timelines that left the same one parted where the first of them left it', () => {
    const early = { timeline: 1, until: startOf(4, SIZE) + 500n };
    const three = windowsOf(
      {
        ...both,
        segments: [...both.segments, ...segments(3, 4, 9)],
        histories: new Map([...histories, [3, [early]]]),
      },
      [base(2)],
    );
    const lsnOf = (of: number, with_: number) =>
      three.find(({ timeline }) => timeline === of)?.forks.find(({ timeline }) => timeline === with_)?.lsn;
    for (const [a, b] of [
      [2, 3],
      [3, 2],
      [1, 3],
      [3, 1],
    ] as const)
      expect(lsnOf(a, b)).toBe(formatLsn(early.until));
    for (const [a, b] of [
      [1, 2],
      [2, 1],
    ] as const)
      expect(lsnOf(a, b)).toBe(formatLsn(fork.until));
  });

  test('a timeline that another one left later parted from it there', () => {
    const second = { timeline: 2, until: startOf(8, SIZE) + 500n };
    const found = windowsOf(
      {
        ...both,
        segments: [...both.segments, ...segments(3, 8, 9)],
        histories: new Map([...histories, [3, [fork, second]]]),
      },
      [base(2)],
    );
    const forks = found.find(({ timeline }) => timeline === 3)?.forks.map(({ timeline, lsn }) => [timeline, lsn]);
    expect(forks).toEqual([
      [1, formatLsn(fork.until)],
      [2, formatLsn(second.until)],
    ]);
  });

  test('a new timeline without its first segment is not reached', () => {
    const cut = { ...both, segments: [...segments(1, 2, 5), ...segments(2, 6, 9)] };
    const found = windowsOf(cut, [base(2)]);
    expect(found.every(({ toLsn }) => toLsn !== formatLsn(startOf(10, SIZE)))).toBe(true);
  });
});

describe('the start of a recovery', () => {
  const windows = windowsOf(wal({ segments: [...segments(1, 2, 6), ...segments(1, 8, 12)] }), [
    base(2),
    base(4),
    base(9),
  ]);

  test.each([
    [15, 'base-2'],
    [34, 'base-2'],
    [35, 'base-4'],
    [60, 'base-4'],
    [85, 'base-9'],
    [120, 'base-9'],
  ])('at minute %i is %s', (minute, snapshot) => {
    expect(startOfRecovery(windows, new Date(at(minute)))?.base.snapshot).toBe(snapshot);
  });

  test.each([14, 61, 84, 121])('does not exist at minute %i', (minute) => {
    expect(startOfRecovery(windows, new Date(at(minute)))).toBeUndefined();
  });

  test('outside of the windows, the nearest times are known', () => {
    expect(nearestTimes(windows, new Date(at(70)))).toEqual({ before: at(60), after: at(85) });
    expect(nearestTimes(windows, new Date(at(1)))).toEqual({ after: at(15) });
    expect(nearestTimes(windows, new Date(at(500)))).toEqual({ before: at(120) });
    expect(nearestTimes([], new Date(at(1)))).toEqual({});
  });
});
