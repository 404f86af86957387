import type { LifecycleRule } from '@aws-sdk/client-s3';

/** What a lifecycle rule of a bucket does to what Lifeboat stores there. Decisions without I/O. */

/** Kept apart by AWS and others for hours: what is there has to be asked for, and waited for. */
const ARCHIVES = ['GLACIER', 'DEEP_ARCHIVE'];

/** What Lifeboat's own rule is to do. Days. */
export interface RuleWish {
  /** after this many days, objects move to STANDARD_IA, from which they can be read at once */
  infrequent?: number;
  /** how long what was removed or overwritten can still be brought back */
  removed: number;
  /** after that many of them it moves to an archive */
  archive?: { days: number; storageClass: 'GLACIER' | 'DEEP_ARCHIVE' };
  /** uploads in parts that nobody finished go after that many days */
  uploads: number;
}

/** By this name Lifeboat finds its rule again. */
export function ruleId(prefix: string): string {
  return `lifeboat ${prefix === '' ? 'whole bucket' : prefix}`;
}

/** Lifeboat's rule, for its prefix alone. It never expires what is current, and archives only what was removed. */
export function ownRule(prefix: string, wish: RuleWish): LifecycleRule {
  const { infrequent, removed, archive, uploads } = wish;
  return {
    ID: ruleId(prefix),
    Status: 'Enabled',
    Filter: { Prefix: prefix },
    // What is left of an object when its last version is gone.
    Expiration: { ExpiredObjectDeleteMarker: true },
    ...(infrequent === undefined ? {} : { Transitions: [{ Days: infrequent, StorageClass: 'STANDARD_IA' }] }),
    ...(archive === undefined
      ? {}
      : { NoncurrentVersionTransitions: [{ NoncurrentDays: archive.days, StorageClass: archive.storageClass }] }),
    NoncurrentVersionExpiration: { NoncurrentDays: removed },
    AbortIncompleteMultipartUpload: { DaysAfterInitiation: uploads },
  };
}

/** The rules of a bucket with Lifeboat's own among them: in the place of its former self, or last. All others stay as they are. */
export function mergeRules(existing: readonly LifecycleRule[], own: LifecycleRule): LifecycleRule[] {
  const at = existing.findIndex(({ ID }) => ID === own.ID);
  return at === -1 ? [...existing, own] : existing.map((rule, i) => (i === at ? own : rule));
}

/** Whether a rule that the server gave back says the same as one that was made here: servers add and order as they like. */
export function sameRule(a: LifecycleRule, b: LifecycleRule): boolean {
  return describeRule(a) === describeRule(b) && a.Status === b.Status && prefixOf(a) === prefixOf(b);
}

/** A rule in words: `to STANDARD_IA after 30 days, removed versions go after 30 days`. */
export function describeRule(rule: LifecycleRule): string {
  const days = (count: number | undefined) => `${count} ${count === 1 ? 'day' : 'days'}`;
  const parts: string[] = [];
  for (const { Days, Date: date, StorageClass } of rule.Transitions ?? []) {
    parts.push(`to ${StorageClass} ${date ? `on ${isoDate(date)}` : `after ${days(Days)}`}`);
  }
  const { Days, Date: date, ExpiredObjectDeleteMarker } = rule.Expiration ?? {};
  if (Days !== undefined || date !== undefined) {
    parts.push(`objects go ${date ? `on ${isoDate(date)}` : `after ${days(Days)}`}`);
  }
  for (const { NoncurrentDays, StorageClass } of rule.NoncurrentVersionTransitions ?? []) {
    parts.push(`removed versions to ${StorageClass} after ${days(NoncurrentDays)}`);
  }
  const noncurrent = rule.NoncurrentVersionExpiration?.NoncurrentDays;
  if (noncurrent !== undefined) parts.push(`removed versions go after ${days(noncurrent)}`);
  const uploads = rule.AbortIncompleteMultipartUpload?.DaysAfterInitiation;
  if (uploads !== undefined) parts.push(`unfinished uploads go after ${days(uploads)}`);
  if (ExpiredObjectDeleteMarker) parts.push('empty delete markers go');
  return parts.join(', ') || 'nothing';
}

/** A rule that takes away, or out of reach, what snapshots need. */
export interface RuleProblem {
  rule: string;
  /** in words: what it does */
  what: string;
}

/**
 * The rules that would harm what lies below `prefix`: those that expire what is current, and those that archive it. Rules that are
 * switched off, for other prefixes, or for tags (Lifeboat sets none) do nothing here.
 */
export function harmfulRules(rules: readonly LifecycleRule[], prefix: string): RuleProblem[] {
  return rules.flatMap((rule) => {
    if (rule.Status !== 'Enabled' || isByTag(rule) || !overlaps(prefixOf(rule), prefix)) return [];
    const harm: LifecycleRule = { Status: 'Enabled' };
    const { Days, Date: date } = rule.Expiration ?? {};
    if (Days !== undefined || date !== undefined) harm.Expiration = { Days, Date: date };
    const archiving = (rule.Transitions ?? []).filter(({ StorageClass = '' }) => ARCHIVES.includes(StorageClass));
    if (archiving.length > 0) harm.Transitions = archiving;
    return harm.Expiration || harm.Transitions ? [{ rule: rule.ID ?? '(no name)', what: describeRule(harm) }] : [];
  });
}

function prefixOf({ Filter, Prefix }: LifecycleRule): string {
  return Filter?.Prefix ?? Filter?.And?.Prefix ?? Prefix ?? '';
}

function isByTag({ Filter }: LifecycleRule): boolean {
  return Filter?.Tag !== undefined || (Filter?.And?.Tags ?? []).length > 0;
}

/** Prefixes are compared as the server does: by their characters, not by whole parts. */
function overlaps(a: string, b: string): boolean {
  return a.startsWith(b) || b.startsWith(a);
}

function isoDate(date: Date): string {
  return date.toISOString().slice(0, 10);
}
