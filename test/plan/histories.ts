import type { KeepRule, KeepSnapshot } from '../../src/plan/keep.ts';
import type { KeepPolicy } from '../../src/plan/model.ts';

/**
 * Generated histories of snapshots, and what has to be kept of them by a calculation that is independent of the
 * product.
 */

export const ZONES = ['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Pacific/Apia'];

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const YEAR = 365 * DAY;

export interface History {
  zone: string;
  now: number;
  snapshots: KeepSnapshot[];
  rules: Map<string, KeepRule>;
}

/** Returns the same numbers for the same seed (mulberry32). */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export function makeHistory(seed: number): History {
  const random = numbers(seed);
  const below = (n: number) => Math.floor(random() * n);
  const chance = (share: number) => random() < share;
  const zone = ZONES[below(ZONES.length)] as string;
  const names = ['db.postgres', 'web.media', 'config'].slice(0, 1 + below(3));
  const step = [HOUR, 6 * HOUR, DAY, DAY, 7 * DAY, 31 * DAY][below(6)] as number;
  // Clocks and years change in late March, October and December.
  let time = Date.UTC(2011 + below(20), [2, 9, 11, below(12)][below(4)] as number, 1 + below(31), below(24));
  const snapshots: KeepSnapshot[] = [];
  const count = below(36);
  const failingSince = chance(0.2) ? below(count + 1) : count;
  for (let i = 0; i < count; i++) {
    time += chance(0.1) ? below(60) * DAY : Math.round(step * (0.5 + random()));
    // The clock was wrong by a year in one run.
    const start = chance(0.02) ? time + (chance(0.5) ? YEAR : -YEAR) : time;
    const sources: Record<string, KeepSnapshot['sources'][string]> = {};
    for (const name of names) {
      if (chance(0.1)) continue;
      const status = i >= failingSince || chance(0.1) ? 'failed' : chance(0.1) ? 'partial' : 'ok';
      const since = snapshots.length > 0 && chance(0.03) ? snapshots[below(snapshots.length)]?.id : undefined;
      sources[name] = { status, ...(since === undefined ? {} : { fellSince: since }) };
    }
    const id = `${String(i).padStart(3, '0')}-${below(1000)}`;
    const pin = chance(0.03) ? { pinned: 'before deploy' } : {};
    snapshots.push({ id, sequence: i + 1, start, end: start + below(HOUR), safety: chance(0.06), ...pin, sources });
  }
  const rules = new Map(
    names.map((name): [string, KeepRule] => {
      const fall =
        chance(0.5) && snapshots.length > 0 ? { acceptedUntil: snapshots[below(snapshots.length)]?.end } : {};
      const rule: KeepRule = { ...(fall as { acceptedUntil?: number }) };
      if (!chance(0.1)) rule.policy = makePolicy(below);
      if (chance(0.05)) rule.hold = 'failed last';
      return [name, rule];
    }),
  );
  return { zone, now: time + below(400) * HOUR, snapshots, rules };
}

function makePolicy(below: (n: number) => number): KeepPolicy {
  const policy: KeepPolicy = {};
  const keys = ['last', 'within', 'daily', 'weekly', 'monthly', 'yearly'] as const;
  for (const key of keys) if (below(3) === 0) policy[key] = key === 'within' ? 1 + below(500) : 1 + below(9);
  return Object.keys(policy).length > 0 ? policy : { daily: 1 + below(9) };
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** Returns day, week (by its Monday), month and year as numbers that grow with time. */
function calendar(zone: string, time: number): [day: number, week: number, month: number, year: number] {
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat('en-CA', { timeZone: zone, year: 'numeric', month: '2-digit', day: '2-digit' });
    formats.set(zone, format);
  }
  const [year = 0, month = 0, date = 0] = format.format(time).split('-').map(Number);
  const day = Date.UTC(year, month - 1, date) / DAY;
  // The first of January 1970 was a Thursday.
  const week = Math.floor((day + 3) / 7);
  return [day, week, year * 12 + month, year];
}

/** Returns the ids of the snapshots that have to be kept, directly from the definitions. */
export function oracle({ zone, now, snapshots: all, rules }: History): Set<string> {
  const kept = new Set(all.filter(({ pinned }) => pinned !== undefined).map(({ id }) => id));
  const snapshots = all.filter(({ start }) => start <= now + 600_000);
  const add = (one: KeepSnapshot | undefined) => one && kept.add(one.id);
  const dates = new Map(snapshots.map((one) => [one, calendar(zone, one.start)]));
  const later = (a: KeepSnapshot, b: KeepSnapshot) => a.sequence > b.sequence;
  const believed = snapshots.filter((one) => !snapshots.some((other) => later(one, other) && other.start > one.start));
  for (const one of all) {
    const isOld = believed.some((witness) => later(witness, one) && now - witness.start >= DAY);
    if (!isOld || now - one.start < DAY) kept.add(one.id);
  }
  const stands = (one: KeepSnapshot) => believed.some((witness) => !later(one, witness) && now - witness.start >= DAY);
  for (const [name, { policy, hold, acceptedUntil = Number.NEGATIVE_INFINITY }] of rules) {
    const stored = snapshots.filter(({ sources }) => ['ok', 'partial'].includes(sources[name]?.status ?? ''));
    const regular = stored.filter(({ safety }) => !safety);
    const newestOf = (some: KeepSnapshot[]) => some.find((one) => !some.some((other) => later(other, one)));
    const whole = (some: KeepSnapshot[]) => some.filter(({ sources }) => sources[name]?.status === 'ok');
    for (const some of [stored, regular, whole(stored), whole(regular)]) add(newestOf(some));
    if (hold) stored.forEach(add);
    for (const after of stored) {
      const before = stored.find(({ id }) => id === after.sources[name]?.fellSince);
      if (before && after.end > acceptedUntil) [before, after].forEach(add);
    }
    if (!policy) continue;
    for (const counted of [regular, whole(regular)]) {
      const newestStart = newestOf(counted.filter(stands))?.start ?? Number.NEGATIVE_INFINITY;
      const counts = [policy.daily, policy.weekly, policy.monthly, policy.yearly];
      for (const one of counted) {
        const after = counted.filter((other) => later(other, one));
        if (after.length < (policy.last ?? 0)) add(one);
        if (policy.within && newestStart - one.start <= policy.within * HOUR) add(one);
        counts.forEach((count = 0, unit) => {
          if (count === 0) return;
          const periods = new Set(after.map((other) => dates.get(other)?.[unit]));
          if (!periods.has(dates.get(one)?.[unit]) && periods.size < count) add(one);
        });
      }
    }
  }
  return kept;
}
