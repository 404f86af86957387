import { describe, expect, test } from 'vitest';
import { decideKept, eitherPolicy, type KeepRule, type KeepSnapshot } from '../../src/plan/keep.ts';
import type { KeepPolicy } from '../../src/plan/model.ts';
import { parseKeep } from '../../src/plan/retention.ts';
import { checkClock } from '../../src/plan/values/clock.ts';
import { checkHistory } from './keep-property.ts';

const DB = 'db.postgres';
/** A time at which everything is more than a day old. */
const LATER = Date.parse('2027-02-01T00:00:00Z');
const policy = (text: string) => (parseKeep(text) as { value: KeepPolicy }).value;

function snap(time: string, over: Partial<KeepSnapshot> = {}): KeepSnapshot {
  const start = Date.parse(time);
  return {
    id: time,
    sequence: start / 1000,
    start,
    end: start + 1000,
    safety: false,
    sources: { [DB]: { status: 'ok' } },
    ...over,
  };
}

/** Returns each kept snapshot of {@link DB} with its reasons. */
function reasons(
  snapshots: KeepSnapshot[],
  keep: string | undefined,
  { zone = 'UTC', ...rule }: { zone?: string } & KeepRule = {},
) {
  const rules = new Map([[DB, { ...(keep ? { policy: policy(keep) } : {}), ...rule }]]);
  const kept = decideKept(snapshots, rules, { zone, now: LATER }).filter((one) => one.keep);
  return Object.fromEntries(kept.map(({ id, always, sources }) => [id, [...always, ...(sources[DB] ?? [])]]));
}

describe('retention', () => {
  test('keeps the newest snapshot of each day that has one, in the time zone, with its reason', () => {
    const nights = ['2026-11-18T22:30:00Z', '2026-11-18T23:30:00Z', '2026-11-19T22:00:00Z', '2026-11-19T22:30:00Z'];
    const snapshots = nights.map((time) => snap(time));
    expect(reasons(snapshots, '2d', { zone: 'Europe/Berlin' })).toEqual({
      '2026-11-18T22:30:00Z': ['daily 2026-11-18'],
      '2026-11-19T22:30:00Z': [`newest good of ${DB}`, 'daily 2026-11-19'],
    });
    expect(Object.keys(reasons(snapshots, '2d'))).toEqual(['2026-11-18T23:30:00Z', '2026-11-19T22:30:00Z']);
  });

  test('counts ISO weeks: the first of January may be in the last week of the old year', () => {
    const days = ['2026-12-31T03:00:00Z', '2027-01-03T03:00:00Z', '2027-01-04T03:00:00Z'];
    const snapshots = days.map((time) => snap(time));
    expect(reasons(snapshots, '5w')).toEqual({
      '2027-01-03T03:00:00Z': ['weekly 2026-W53'],
      '2027-01-04T03:00:00Z': [`newest good of ${DB}`, 'weekly 2027-W01'],
    });
  });

  test('counts the last ones, months, years, and hours back from the newest', () => {
    const snapshots = ['2025-12-31T03:00:00Z', '2026-10-30T03:00:00Z', '2026-11-01T03:00:00Z', '2026-11-02T03:00:00Z'];
    expect(
      reasons(
        snapshots.map((time) => snap(time)),
        'last 1 within 24h 2m 2y',
      ),
    ).toEqual({
      '2025-12-31T03:00:00Z': ['yearly 2025'],
      '2026-10-30T03:00:00Z': ['monthly 2026-10'],
      '2026-11-01T03:00:00Z': ['within 24h'],
      '2026-11-02T03:00:00Z': [`newest good of ${DB}`, 'last 1', 'within 24h', 'monthly 2026-11', 'yearly 2026'],
    });
  });

  test('ignores failed entries, and removes nothing by age alone', () => {
    const failed = { sources: { [DB]: { status: 'failed' as const } } };
    const days = [10, 11, 12, 13, 14, 15].map((day) => snap(`2026-11-${day}T03:00:00Z`, day > 11 ? failed : {}));
    expect(reasons(days, '2d')).toMatchObject({
      '2026-11-10T03:00:00Z': ['daily 2026-11-10'],
      '2026-11-11T03:00:00Z': [`newest good of ${DB}`, 'daily 2026-11-11'],
      '2026-11-15T03:00:00Z': ['no newer one is a day old'],
    });
    expect(Object.keys(reasons(days, '2d'))).toHaveLength(3);
  });

  test('keeps everything of a source whose last run failed, and the newest of one that is gone for good', () => {
    const days = [10, 11, 12].map((day) => snap(`2026-11-${day}T03:00:00Z`));
    expect(Object.keys(reasons(days, '1d', { hold: 'failed last' }))).toHaveLength(3);
    expect(reasons(days, undefined)).toEqual({ '2026-11-12T03:00:00Z': [`newest good of ${DB}`] });
  });

  test('keeps the newest snapshot of each database, and those that its policy keeps', () => {
    const server = (day: number, stored: string[], missing: string[] = []) =>
      snap(`2026-11-${day}T03:00:00Z`, {
        sources: { [DB]: { status: missing.length > 0 ? 'partial' : 'ok', databases: { stored, missing } } },
      });
    const kept = (...days: KeepSnapshot[]) => Object.keys(reasons(days, '1d')).map((id) => id.slice(8, 10));
    const whole = server(10, ['app', 'blog']);
    const withoutBlog = [13, 14, 15].map((day) => server(day, ['app'], ['blog']));
    // Only `blog` needs the 12th: the newest snapshot with all databases is older.
    expect(kept(whole, server(11, ['blog'], ['app']), server(12, ['blog'], ['app']), ...withoutBlog)).toEqual([
      '10',
      '12',
      '15',
    ]);
    // A dropped database needs no snapshot.
    expect(kept(whole, server(11, ['blog'], ['app']), server(12, ['app']), server(13, ['app']))).toEqual(['13']);
    expect(reasons([server(12, ['blog'], ['app']), ...withoutBlog], '1d')['2026-11-12T03:00:00Z']).toEqual([
      `newest of ${DB} with database blog`,
      'daily 2026-11-12 with database blog',
    ]);
  });

  test('removes a snapshot that no source needs', () => {
    const both = { sources: { [DB]: { status: 'ok' as const }, config: { status: 'ok' as const } } };
    const days = [10, 11, 12].map((day) => snap(`2026-11-${day}T03:00:00Z`, both));
    const rules = new Map([
      [DB, { policy: policy('1d') }],
      ['config', { policy: policy('2d') }],
    ]);
    const decisions = decideKept(days, rules, { zone: 'UTC', now: LATER });
    expect(decisions.map(({ keep }) => keep)).toEqual([false, true, true]);
    expect(decisions[1]?.sources).toEqual({ [DB]: [], config: ['daily 2026-11-11'] });
  });

  test('keeps the newest good snapshot although a newer one is partial', () => {
    const partial = snap('2026-11-12T03:00:00Z', { sources: { [DB]: { status: 'partial' } } });
    expect(reasons([snap('2026-11-10T03:00:00Z'), partial], 'last 1')).toEqual({
      '2026-11-10T03:00:00Z': [`newest good of ${DB}`, 'last 1'],
      '2026-11-12T03:00:00Z': [`newest of ${DB}`, 'last 1'],
    });
  });

  test('does not let days with partial snapshots displace days with whole ones', () => {
    const partial = { sources: { [DB]: { status: 'partial' as const } } };
    const days = [10, 11, 12, 13, 14, 15].map((day) => snap(`2026-11-${day}T03:00:00Z`, day > 12 ? partial : {}));
    expect(Object.keys(reasons(days, '2d'))).toEqual([11, 12, 14, 15].map((day) => `2026-11-${day}T03:00:00Z`));
  });

  test('keeps a safety snapshot that is pinned, or until there is a newer snapshot', () => {
    const regular = snap('2026-11-10T03:00:00Z');
    const safety = snap('2026-11-11T03:00:00Z', { safety: true });
    expect(reasons([regular, safety], '1d')).toEqual({
      [regular.id]: [`newest good of ${DB} but for safety snapshots`, 'daily 2026-11-10'],
      [safety.id]: [`newest good of ${DB}`],
    });
    const newer = snap('2026-11-12T03:00:00Z');
    expect(Object.keys(reasons([regular, safety, newer], '1d'))).toEqual([newer.id]);
    const pinned = { ...safety, pinned: 'before restore x' };
    expect(reasons([regular, pinned, newer], '1d')[safety.id]).toEqual(['pinned: before restore x']);
  });

  test('keeps the snapshot before a fall until the fall is accepted', () => {
    const before = snap('2026-11-10T03:00:00Z');
    const after = snap('2026-11-11T03:00:00Z', { sources: { [DB]: { status: 'ok', fellSince: before.id } } });
    const newer = snap('2026-11-12T03:00:00Z');
    const all = [before, after, newer];
    expect(reasons(all, '1d')).toMatchObject({
      [before.id]: [`before the drop of ${DB}`],
      [after.id]: [`after the drop of ${DB}`],
    });
    expect(Object.keys(reasons(all, '1d', { acceptedUntil: after.end - 1 }))).toHaveLength(3);
    expect(Object.keys(reasons(all, '1d', { acceptedUntil: after.end }))).toEqual([newer.id]);
  });

  test('removes nothing that is less than a day old', () => {
    const hours = ['2026-11-10T03:00:00Z', '2026-11-10T04:00:00Z', '2026-11-10T05:00:00Z'].map((time) => snap(time));
    const rules = new Map([[DB, { policy: policy('1d') }]]);
    const now = Date.parse('2026-11-11T03:30:00Z');
    const decisions = decideKept(hours, rules, { zone: 'UTC', now });
    expect(decisions.map(({ keep, always }) => [keep, ...always])).toEqual([
      // The oldest snapshot that is more than a day old by its date.
      [true, 'no newer one is a day old'],
      [true, 'less than a day old'],
      [true, 'less than a day old'],
    ]);
    const later = decideKept(hours, rules, { zone: 'UTC', now: now + 3_600_000 });
    expect(later.map(({ keep }) => keep)).toEqual([false, true, true]);
  });

  test('refuses a policy that keeps nothing', () => {
    for (const empty of [{}, { daily: 0 }]) {
      const rules = new Map([[DB, { policy: empty }]]);
      expect(() => decideKept([snap('2026-11-10T03:00:00Z')], rules, { zone: 'UTC', now: LATER })).toThrow(
        'keeps nothing',
      );
    }
  });

  test('merges two policies', () => {
    expect(eitherPolicy({ daily: 7, weekly: 4 }, { daily: 3, last: 2, weekly: 9 })).toEqual({
      daily: 7,
      weekly: 9,
      last: 2,
    });
  });
});

describe('the clock', () => {
  const day = 86_400_000;
  const now = Date.parse('2026-11-20T03:00:00Z');
  const check =
    (...starts: number[]) =>
    () =>
      checkClock(starts, now);

  test('may be slightly wrong, and backups may have paused for months', () => {
    expect(check()).not.toThrow();
    expect(check(now + 5 * 60_000, now - day)).not.toThrow();
    expect(check(now - 99 * day, now - 198 * day)).not.toThrow();
  });

  test('is refused if it is far ahead, now or at the last run, but not if it was ahead once before', () => {
    const code = 'CLOCK_JUMPED';
    expect(check(now - 365 * day)).toThrow(expect.objectContaining({ code }));
    expect(check(now, now - 365 * day)).toThrow(expect.objectContaining({ code }));
    expect(check(now + 365 * day, now - day, now - 2 * day)).not.toThrow();
    expect(check(now + 365 * day)).not.toThrow();
  });

  /** Makes snapshots in the order of the chain, each with its date. */
  const chain = (...times: string[]) => times.map((time, i) => snap(time, { id: `${i}`, sequence: i + 1 }));
  const keptOf = (snapshots: KeepSnapshot[], keep: string, at: number) =>
    decideKept(snapshots, new Map([[DB, { policy: policy(keep) }]]), { zone: 'UTC', now: at })
      .filter((one) => one.keep)
      .map(({ id }) => id);

  test('a date in the future keeps its snapshot, and displaces none of the others', () => {
    const days = chain('2026-11-17T03:00:00Z', '2027-11-20T03:00:00Z', '2026-11-18T03:00:00Z', '2026-11-19T03:00:00Z');
    for (const keep of ['within 72h', '3d', 'last 3', '3w 3m 3y 3d']) {
      expect(keptOf(days, keep, now + 2 * day), keep).toEqual(['0', '1', '2', '3']);
    }
    expect(keptOf(days, '1d', now + 2 * day)).toEqual(['1', '3']);
    // After that date, it is an old snapshot, as the chain says.
    const year = chain(
      ...['2026-11-17T03:00:00Z', '2027-11-20T03:00:00Z', '2026-11-18T03:00:00Z'],
      ...['2027-11-19T03:00:00Z', '2027-11-21T03:00:00Z'],
    );
    expect(keptOf(year, '3d', Date.parse('2027-11-29T03:00:00Z'))).toEqual(['2', '3', '4']);
  });

  test('one run under a clock that is ahead removes nothing that counts back from the newest', () => {
    const first = Date.parse('2026-11-01T03:00:00Z');
    const date = (i: number) => new Date(first + i * day).toISOString();
    const month = Array.from({ length: 30 }, (_, i) => date(i));
    const ahead = date(29 + 61);
    const at = Date.parse(ahead) + 60_000;
    for (const keep of ['within 720h', 'within 720h last 1', 'within 720h 1d 1w 1m 1y']) {
      expect(keptOf(chain(...month, ahead), keep, at), keep).toHaveLength(31);
      // Several runs on that day.
      expect(keptOf(chain(...month, ahead, ahead, ahead), keep, at), keep).toHaveLength(33);
    }
    // A date that is a day old is trusted: a host that was off for two months looks the same.
    expect(keptOf(chain(...month, ahead), 'within 720h', at + day)).toEqual(['30']);
    // After the clock is corrected, the snapshot is dated in the future, and later it is old by the chain.
    expect(keptOf(chain(...month, ahead, date(30)), 'within 720h', first + 31 * day)).toHaveLength(32);
  });

  test('the chain decides which snapshot is the newest, whatever the dates are', () => {
    const days = chain('2026-11-18T03:00:00Z', '2025-11-19T03:00:00Z');
    expect(keptOf(days, 'last 1', now)).toEqual(['0', '1']);
    const more = chain('2026-11-10T03:00:00Z', '2026-11-11T03:00:00Z', '2025-11-12T03:00:00Z', '2026-11-13T03:00:00Z');
    expect(keptOf(more, 'last 2', now)).toEqual(['2', '3']);
  });

  test('removes nothing that is less than a day old by the chain, although the clock of the last run was a year behind', () => {
    const days = chain('2026-11-18T03:00:00Z', '2026-11-19T02:00:00Z', '2025-11-20T02:59:50Z', '2026-11-20T03:00:00Z');
    const at = now + 60_000;
    expect(keptOf(days, 'last 1', at)).toEqual(['1', '2', '3']);
    // A second prune removes nothing more.
    expect(keptOf(days.slice(1), 'last 1', at)).toEqual(['1', '2', '3']);
    expect(keptOf(days, 'last 1', at + day)).toEqual(['3']);
    const twice = chain('2026-11-19T02:00:00Z', '2025-11-20T02:59:40Z', '2025-11-20T02:59:50Z', '2026-11-20T03:00:00Z');
    expect(keptOf(twice, 'last 1', at)).toEqual(['0', '1', '2', '3']);
  });
});

test('agrees with an independent calculation on generated histories', () => {
  for (let seed = 1; seed <= 200; seed++) checkHistory(seed);
}, 300_000);

describe('base backups', () => {
  const week = 7 * 24;
  const weekly = ['2026-11-01T04:30:00Z', '2026-11-08T04:30:00Z', '2026-11-15T04:30:00Z', '2026-11-22T04:30:00Z'];
  /** Returns the base backups that stay on a day, for a window in hours. */
  const kept = (snapshots: KeepSnapshot[], now: string, within: number) => {
    const rules = new Map([[DB, { policy: { within }, startsWindow: true as const }]]);
    return decideKept(snapshots, rules, { zone: 'UTC', now: Date.parse(now) })
      .filter(({ keep }) => keep)
      .map(({ id }) => id);
  };

  test.each(['2026-11-23T05:00:00Z', '2026-11-25T12:00:00Z', '2026-11-29T04:29:00Z'])(
    'at %s, one that is older than the window stays, and older ones go',
    (now) => {
      const ids = kept(
        weekly.map((time) => snap(time)),
        now,
        week,
      );
      const begin = Date.parse(now) - week * 60 * 60_000;
      expect(ids.some((id) => Date.parse(id) <= begin)).toBe(true);
      expect(ids).not.toContain(weekly[0]);
    },
  );

  test('one that ended inside the window does not reach its beginning', () => {
    const slow = snap('2026-11-14T04:30:00Z', { end: Date.parse('2026-11-16T04:30:00Z') });
    const ids = kept([snap('2026-11-08T04:30:00Z'), slow, snap('2026-11-22T04:30:00Z')], '2026-11-23T05:00:00Z', week);
    expect(ids).toContain('2026-11-08T04:30:00Z');
  });

  test('without the rule of windows, the older one would go', () => {
    const rules = new Map([[DB, { policy: { within: week } }]]);
    const decided = decideKept(
      weekly.map((time) => snap(time)),
      rules,
      { zone: 'UTC', now: LATER },
    );
    expect(decided.filter(({ keep }) => keep).map(({ id }) => id)).toEqual(weekly.slice(2));
  });

  describe('after a recovery in place', () => {
    const day = (number: number) => new Date(Date.UTC(2026, 9, number, 4)).toISOString();
    /** A base backup of a day, at a position that begins with the number of a day. */
    const made = (at: number, place: number, timeline: number, fields: object = {}) => {
      const base = {
        systemId: '7',
        timeline,
        start: BigInt(place * 1000),
        stop: BigInt(place * 1000 + 500),
        ...fields,
      };
      return snap(day(at), { id: `${at}`, sequence: at, sources: { [DB]: { status: 'ok', base } } });
    };
    /** On day 22, the server was recovered to the middle of day 6. */
    const forked = [made(1, 1, 1), made(7, 7, 1), made(14, 14, 1), made(21, 21, 1), made(22, 6.6, 2), made(28, 8, 2)];
    const keptOn = (number: number, snapshots = forked) => kept(snapshots, day(number), 2 * week);

    test('the base backup before the fork stays until the first one after it is older than the window', () => {
      expect(keptOn(30)).toEqual(['1', '7', '14', '21', '22', '28']);
      expect(keptOn(37, [...forked, made(35, 15, 2)])).toEqual(['1', '14', '21', '22', '28', '35']);
      expect(keptOn(44, [...forked, made(35, 15, 2), made(42, 22, 2)])).toEqual(['22', '28', '35', '42']);
    });

    test('those of another server or history do not lead to the present data', () => {
      const other = forked.slice(0, 4).concat(made(22, 23, 1, { systemId: '8' }), made(30, 30, 1, { systemId: '8' }));
      expect(keptOn(32, other)).toEqual(['14', '21', '22', '30']);
      const later = [
        made(1, 1, 1, { era: 1 }),
        made(14, 14, 1, { era: 2 }),
        made(15, 5, 1),
        made(30, 30, 1, { era: 2 }),
      ];
      expect(keptOn(32, later)).toEqual(['15', '30']);
    });

    test('one of a timeline in between counts, and those behind the second fork do not', () => {
      const twice = [made(1, 1, 1), made(2, 9, 1), made(3, 5, 2), made(4, 8, 2), made(20, 6.5, 3), made(21, 7, 3)];
      expect(keptOn(22, twice)).toEqual(['3', '4', '20', '21']);
    });
  });

  test('one that failed does not count', () => {
    const failed = snap('2026-11-15T04:30:00Z', { sources: { [DB]: { status: 'failed' } } });
    const ids = kept([snap(weekly[0]!), snap(weekly[1]!), failed, snap(weekly[3]!)], '2026-11-23T05:00:00Z', week);
    expect(ids).toContain(weekly[1]);
  });
});
