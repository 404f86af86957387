import { LifeboatError } from '../base/errors.ts';
import { type KeepEntry, leadingHere, sometimesMissing } from './keep-databases.ts';
import type { KeepPolicy } from './model.ts';
import { formatKeep } from './retention.ts';
import { dayOldSequence, isFuture } from './values/clock.ts';
import { offsetAt } from './values/zone.ts';

/** One snapshot, as the retention sees it. */
export interface KeepSnapshot {
  id: string;
  /** its place in the chain, which says what is newer whatever the dates are */
  sequence: number;
  /** start and end of its run, milliseconds since 1970 */
  start: number;
  end: number;
  /** a restore took it of the data that it was about to replace; policies never count it */
  safety: boolean;
  /** why it is pinned */
  pinned?: string;
  sources: Readonly<Record<string, KeepEntry>>;
}

/** The retention rule of one source. */
export interface KeepRule {
  /** absent: the source is gone for good, and only its newest good snapshot stays */
  policy?: KeepPolicy;
  /** its snapshots are starting points, so the newest one before the span of `within` is needed too */
  startsWindow?: true;
  /** why none of its snapshots may be removed now, such as `its last run failed` */
  hold?: string;
  /**
   * drops until then are accepted, milliseconds since 1970; `acceptedSequence` says the same by the chain and takes
   * precedence
   */
  acceptedUntil?: number;
  acceptedSequence?: number;
}

/** The decision on one snapshot, with its reasons. */
export interface Decision {
  id: string;
  keep: boolean;
  /** for each source in it, the reasons to keep it; empty: the source does not need it */
  sources: Record<string, string[]>;
  /** reasons to keep it whatever its sources need */
  always: string[];
  /** the sources whose `hold` is the only reason to keep it */
  heldBy?: string[];
}

/** The clock to use: an IANA zone, and the present time in milliseconds since 1970. */
interface KeepOptions {
  zone: string;
  now: number;
}

type Bucket = 'daily' | 'weekly' | 'monthly' | 'yearly';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/**
 * Decides which snapshots to keep. A snapshot holds several sources, each with its own policy, and is never split: it
 * is removed when no source needs it.
 *
 * As in restic, a policy counts only days, weeks, months and years that have a good snapshot, and keeps the newest of
 * each. `within` counts back from the newest good snapshot of the source that is a day old by the chain. Time without a
 * backup therefore removes nothing, and neither does a run under a clock that is ahead. Each policy is applied twice:
 * to all stored snapshots, and to those in which the source is whole. Failed entries do not count.
 *
 * Some snapshots stay whatever the policies say: for each source, the newest that is not failed and the newest that is
 * ok; for each database that a server still has, the newest that holds it; for a drop that nobody accepted, those
 * before and after it. A safety snapshot without a pin stays only while it is the newest of a source.
 *
 * The chain decides which snapshot is newer. Dates only assign snapshots to days, weeks, months and years. Every
 * snapshot stays for at least a day by its own date, and until a newer one is a day old by the chain. A snapshot dated
 * in the future stays and is not counted.
 *
 * @param snapshots in any order
 * @param rules one for each source of any snapshot
 * @returns in the order of `snapshots`
 * @throws SETTING_INVALID for a policy that keeps nothing
 */
export function decideKept(
  snapshots: readonly KeepSnapshot[],
  rules: ReadonlyMap<string, KeepRule>,
  { zone, now }: KeepOptions,
): Decision[] {
  const dayOld = dayOldSequence(snapshots, now);
  const decisions = new Map(snapshots.map((one) => [one.id, begin(one, now)]));
  const counted = snapshots.filter(({ start }) => !isFuture(start, now));
  const names = new Map<string, Record<Bucket, string>>();
  const namesOf = ({ id, start }: KeepSnapshot) => {
    const known = names.get(id) ?? bucketNames(start, zone);
    names.set(id, known);
    return known;
  };
  const newestFirst = counted.toSorted((a, b) => b.sequence - a.sequence);
  const policing = { namesOf, dayOld };
  for (const [source, rule] of rules) {
    if (rule.policy && formatKeep(rule.policy) === '') {
      throw new LifeboatError('SETTING_INVALID', `the keep policy of ${source} keeps nothing`);
    }
    const keep = (id: string, why: string) => {
      const reasons = decisions.get(id)?.sources[source];
      if (!reasons?.includes(why)) reasons?.push(why);
    };
    const good = newestFirst.filter(({ sources }) => isGood(sources[source]));
    if (rule.hold !== undefined) for (const { id } of good) keep(id, rule.hold);
    keepNewest(good, source, keep);
    keepBeforeDrops(good, source, rule, keep);
    const regular = good.filter(({ safety }) => !safety);
    if (rule.policy) {
      keepByPolicy(regular, rule.policy, policing, keep);
      const starts = rule.startsWindow ? regular.filter(isWhole(source)) : [];
      keepStart(starts, rule.policy, policing, keep);
      // After a recovery to an earlier point, the newest one may not lead to the present data.
      keepStart(leadingHere(starts, source), rule.policy, policing, keep);
      // Days with partial snapshots do not displace days with whole ones.
      keepByPolicy(regular.filter(isWhole(source)), rule.policy, policing, keep);
    }
    for (const { database, holding } of sometimesMissing(regular, source)) {
      const [newest] = holding;
      if (newest) keep(newest.id, `newest of ${source} with database ${database}`);
      const keepFor: Keep = (id, why) => keep(id, `${why} with database ${database}`);
      if (rule.policy) keepByPolicy(holding, rule.policy, policing, keepFor);
    }
  }
  for (const { id, sequence } of snapshots) {
    const decision = decisions.get(id) as Decision;
    const isWanted = decision.always.length > 0 || Object.values(decision.sources).some((why) => why.length > 0);
    if (!isWanted && sequence >= dayOld) decision.always.push('no newer one is a day old');
    decision.keep = isWanted || sequence >= dayOld;
    const heldBy = holders(decision, rules);
    if (decision.keep && heldBy) decision.heldBy = heldBy;
  }
  return [...decisions.values()];
}

/** Returns the sources whose hold is the only reason to keep a snapshot, or undefined if there is another reason. */
function holders({ always, sources }: Decision, rules: ReadonlyMap<string, KeepRule>): string[] | undefined {
  const wanting = Object.entries(sources).filter(([, why]) => why.length > 0);
  const isHold = ([name, why]: [string, string[]]) => why.every((one) => one === rules.get(name)?.hold);
  return always.length === 0 && wanting.every(isHold) ? wanting.map(([name]) => name) : undefined;
}

function begin({ id, start, pinned, sources }: KeepSnapshot, now: number): Decision {
  const always: string[] = [];
  if (pinned !== undefined) always.push(`pinned: ${pinned}`);
  if (isFuture(start, now)) always.push('dated in the future');
  else if (start > now - DAY_MS) always.push('less than a day old');
  return { id, keep: true, always, sources: Object.fromEntries(Object.keys(sources).map((name) => [name, []])) };
}

function isGood(entry: KeepEntry | undefined): boolean {
  return entry !== undefined && entry.status !== 'failed';
}

function isWhole(source: string): (snapshot: KeepSnapshot) => boolean {
  return ({ sources }) => sources[source]?.status === 'ok';
}

type Keep = (id: string, why: string) => void;

/** Inputs of a policy: the days, weeks, months and years of a snapshot, and {@link dayOldSequence}. */
interface Policing {
  namesOf(snapshot: KeepSnapshot): Record<Bucket, string>;
  dayOld: number;
}

function keepNewest(good: readonly KeepSnapshot[], source: string, keep: Keep): void {
  const isOk = isWhole(source);
  // A safety snapshot may hold the very data that a restore was meant to replace.
  const regular = good.filter(({ safety }) => !safety);
  const but = 'but for safety snapshots';
  const newest = new Map<KeepSnapshot | undefined, string>([
    [regular[0], `newest of ${source} ${but}`],
    [regular.find(isOk), `newest good of ${source} ${but}`],
    [good[0], `newest of ${source}`],
    [good.find(isOk), `newest good of ${source}`],
  ]);
  for (const [snapshot, why] of newest) if (snapshot) keep(snapshot.id, why);
}

function keepBeforeDrops(good: readonly KeepSnapshot[], source: string, rule: KeepRule, keep: Keep): void {
  const known = new Set(good.map(({ id }) => id));
  const { acceptedSequence, acceptedUntil = -1 } = rule;
  for (const { id, sequence, end, sources } of good) {
    const before = sources[source]?.fellSince;
    const isAccepted = acceptedSequence === undefined ? end <= acceptedUntil : sequence <= acceptedSequence;
    if (before === undefined || !known.has(before) || isAccepted) continue;
    keep(before, `before the drop of ${source}`);
    // This snapshot records the drop. Without it, nothing would keep the one before.
    keep(id, `after the drop of ${source}`);
  }
}

/** Keeps the newest snapshot that ended before the span of `within`: from it, a recovery reaches the whole span. */
function keepStart(good: readonly KeepSnapshot[], { within = 0 }: KeepPolicy, { dayOld }: Policing, keep: Keep): void {
  const base = good.find(({ sequence }) => sequence <= dayOld) ?? good.at(-1);
  const oldest = (base?.start ?? 0) - within * HOUR_MS;
  const start = good.find((one) => one.end <= oldest);
  if (start) keep(start.id, 'start of the window');
}

function keepByPolicy(good: readonly KeepSnapshot[], policy: KeepPolicy, policing: Policing, keep: Keep): void {
  const { last = 0, within = 0 } = policy;
  for (const [i, { id }] of good.slice(0, last).entries()) keep(id, `last ${i + 1}`);
  // If none is a day old, all of them stay anyway.
  const base = good.find(({ sequence }) => sequence <= policing.dayOld) ?? good.at(-1);
  const oldest = (base?.start ?? 0) - within * HOUR_MS;
  for (const { id, start } of good) if (within > 0 && start >= oldest) keep(id, `within ${within}h`);
  for (const bucket of ['daily', 'weekly', 'monthly', 'yearly'] as const) {
    const seen = new Set<string>();
    for (const snapshot of good) {
      if (seen.size >= (policy[bucket] ?? 0)) break;
      const name = policing.namesOf(snapshot)[bucket];
      if (seen.has(name)) continue;
      seen.add(name);
      keep(snapshot.id, `${bucket} ${name}`);
    }
  }
}

/** Returns the day, ISO week, month and year of an instant in a time zone. */
function bucketNames(instant: number, zone: string): Record<Bucket, string> {
  const local = instant + offsetAt(zone, instant);
  const day = new Date(local).toISOString().slice(0, 10);
  return { daily: day, weekly: isoWeek(local), monthly: day.slice(0, 7), yearly: day.slice(0, 4) };
}

/** Weeks begin on Monday and belong to the year of their Thursday (ISO 8601). */
function isoWeek(local: number): string {
  const midnight = Math.floor(local / DAY_MS) * DAY_MS;
  const sinceMonday = (new Date(midnight).getUTCDay() + 6) % 7;
  const thursday = midnight + (3 - sinceMonday) * DAY_MS;
  const year = new Date(thursday).getUTCFullYear();
  const week = Math.floor((thursday - Date.UTC(year, 0, 1)) / (7 * DAY_MS)) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}

/** Returns the policy that keeps everything that either of two policies keeps. */
export function eitherPolicy(a: KeepPolicy, b: KeepPolicy): KeepPolicy {
  const both: KeepPolicy = { ...a };
  for (const [key, count] of Object.entries(b) as [keyof KeepPolicy, number][]) {
    both[key] = Math.max(both[key] ?? 0, count);
  }
  return both;
}
