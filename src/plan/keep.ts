import { LifeboatError } from '../base/errors.ts';
import { type KeepEntry, sometimesMissing } from './keep-databases.ts';
import type { KeepPolicy } from './model.ts';
import { formatKeep } from './retention.ts';
import { dayOldSequence, isFuture } from './values/clock.ts';
import { offsetAt } from './values/zone.ts';

/** What the retention has to know of one snapshot. */
export interface KeepSnapshot {
  id: string;
  /** its place in the chain: what is newer, whatever the dates say */
  sequence: number;
  /** when its run began and ended, milliseconds since 1970 */
  start: number;
  end: number;
  /** taken by a restore of what it was about to replace: never counted by a policy */
  safety: boolean;
  /** why it is pinned */
  pinned?: string;
  sources: Readonly<Record<string, KeepEntry>>;
}

/** How one source is kept. */
export interface KeepRule {
  /** absent: it is gone for good, and only its newest good snapshot stays */
  policy?: KeepPolicy;
  /** why nothing of it may go now, such as `its last run failed` */
  hold?: string;
  /** until when its falls have been accepted, milliseconds since 1970; `acceptedSequence`: the same by the chain, and it goes first */
  acceptedUntil?: number;
  acceptedSequence?: number;
}

/** What becomes of one snapshot, and why. */
export interface Decision {
  id: string;
  keep: boolean;
  /** for each source that it holds, why that wants it kept; none: the source can do without it */
  sources: Record<string, string[]>;
  /** why it is kept whatever its sources say */
  always: string[];
  /** it is kept only because of the `hold` of these sources */
  heldBy?: string[];
}

/** By which clock: an IANA zone, and milliseconds since 1970. */
interface KeepOptions {
  zone: string;
  now: number;
}

type Bucket = 'daily' | 'weekly' | 'monthly' | 'yearly';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/**
 * Decides which snapshots (any order) are kept. A snapshot holds several sources, each with a policy of its own, and is never
 * parted: it goes when none of them wants it. As in restic, a policy counts only days, weeks, months and years in which there is a
 * good snapshot, and keeps the newest of each; `within` counts back from the source's newest good one that is a day old by the
 * chain: a new date has to stand for a day before anything goes by it. So time that goes by without a backup removes nothing, and
 * neither does one run under a clock that is ahead. It counts once over all that is stored, and once over what is whole. Entries that failed count for
 * nothing. Whatever the policies say, of each source there stay its newest snapshot that is not failed and its newest that is
 * ok, of each database that a server still has the newest that holds it, and of a fall that nobody accepted the snapshots before
 * and after it. A safety snapshot without a pin stays only while it is the newest of a source.
 *
 * What is newer goes by the chain; the dates only name days, weeks, months and years. A snapshot stays for a day at least, by its own
 * date and by the chain: only when a newer one is a day old. One whose date is in the future stays, and is not counted.
 *
 * @param rules one for each source that a snapshot holds
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
    keepBeforeFalls(good, source, rule, keep);
    const regular = good.filter(({ safety }) => !safety);
    if (rule.policy) {
      keepByPolicy(regular, rule.policy, policing, keep);
      // Days on which only a part could be stored push out no day on which all was.
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

/** The sources whose hold is all that keeps a snapshot; undefined where something else does. */
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

/** What policies go by: the days, weeks, months and years of a snapshot, and {@link dayOldSequence}. */
interface Policing {
  namesOf(snapshot: KeepSnapshot): Record<Bucket, string>;
  dayOld: number;
}

function keepNewest(good: readonly KeepSnapshot[], source: string, keep: Keep): void {
  const isOk = isWhole(source);
  // The data of a safety snapshot may be what a restore was meant to get rid of.
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

function keepBeforeFalls(good: readonly KeepSnapshot[], source: string, rule: KeepRule, keep: Keep): void {
  const known = new Set(good.map(({ id }) => id));
  const { acceptedSequence, acceptedUntil = -1 } = rule;
  for (const { id, sequence, end, sources } of good) {
    const before = sources[source]?.fellSince;
    const isAccepted = acceptedSequence === undefined ? end <= acceptedUntil : sequence <= acceptedSequence;
    if (before === undefined || !known.has(before) || isAccepted) continue;
    keep(before, `before the fall of ${source}`);
    // What tells of the fall: without it, nothing would keep the one before.
    keep(id, `after the fall of ${source}`);
  }
}

function keepByPolicy(good: readonly KeepSnapshot[], policy: KeepPolicy, policing: Policing, keep: Keep): void {
  const { last = 0, within = 0 } = policy;
  for (const [i, { id }] of good.slice(0, last).entries()) keep(id, `last ${i + 1}`);
  // Where none is a day old, all of them stay anyway.
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

/** The day, ISO week, month and year of an instant, on the clocks of a zone. */
function bucketNames(instant: number, zone: string): Record<Bucket, string> {
  const local = instant + offsetAt(zone, instant);
  const day = new Date(local).toISOString().slice(0, 10);
  return { daily: day, weekly: isoWeek(local), monthly: day.slice(0, 7), yearly: day.slice(0, 4) };
}

/** Weeks begin on Monday and belong to the year that has their Thursday. */
function isoWeek(local: number): string {
  const midnight = Math.floor(local / DAY_MS) * DAY_MS;
  const sinceMonday = (new Date(midnight).getUTCDay() + 6) % 7;
  const thursday = midnight + (3 - sinceMonday) * DAY_MS;
  const year = new Date(thursday).getUTCFullYear();
  const week = Math.floor((thursday - Date.UTC(year, 0, 1)) / (7 * DAY_MS)) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}

/** The policy that keeps what either of the two would. */
export function eitherPolicy(a: KeepPolicy, b: KeepPolicy): KeepPolicy {
  const both: KeepPolicy = { ...a };
  for (const [key, count] of Object.entries(b) as [keyof KeepPolicy, number][]) {
    both[key] = Math.max(both[key] ?? 0, count);
  }
  return both;
}
