import type { LifecycleRule } from '@aws-sdk/client-s3';

/** Judges the effect of a bucket's lifecycle rules on Lifeboat's objects. No I/O. */

/** Storage classes whose objects must be restored before they can be read, which takes hours. */
const ARCHIVES = ['GLACIER', 'DEEP_ARCHIVE'];

/** The settings of Lifeboat's own rule. Days. */
export interface RuleWish {
  /** after this many days, objects move to STANDARD_IA, from which they can be read at once */
  infrequent?: number;
  /** how long removed or overwritten objects can be restored */
  removed: number;
  /** removed objects move to an archive after this many of those days */
  archive?: { days: number; storageClass: 'GLACIER' | 'DEEP_ARCHIVE' };
  /** unfinished uploads in parts are aborted after this many days */
  uploads: number;
}

/** Returns the name by which Lifeboat recognises its rule. */
export function ruleId(prefix: string): string {
  return `lifeboat ${prefix === '' ? 'whole bucket' : prefix}`;
}

/**
 * Returns Lifeboat's rule, for its prefix alone. The rule never expires current objects, and archives only removed
 * ones.
 */
export function ownRule(prefix: string, wish: RuleWish): LifecycleRule {
  const { infrequent, removed, archive, uploads } = wish;
  return {
    ID: ruleId(prefix),
    Status: 'Enabled',
    Filter: { Prefix: prefix },
    // The last marker remains after the last version of an object is gone.
    Expiration: { ExpiredObjectDeleteMarker: true },
    ...(infrequent === undefined ? {} : { Transitions: [{ Days: infrequent, StorageClass: 'STANDARD_IA' }] }),
    ...(archive === undefined
      ? {}
      : { NoncurrentVersionTransitions: [{ NoncurrentDays: archive.days, StorageClass: archive.storageClass }] }),
    NoncurrentVersionExpiration: { NoncurrentDays: removed },
    AbortIncompleteMultipartUpload: { DaysAfterInitiation: uploads },
  };
}

/**
 * Returns the rules of a bucket with Lifeboat's own: it replaces its earlier version, or comes last. All others stay
 * unchanged.
 */
export function mergeRules(existing: readonly LifecycleRule[], own: LifecycleRule): LifecycleRule[] {
  const at = existing.findIndex(({ ID }) => ID === own.ID);
  return at === -1 ? [...existing, own] : existing.map((rule, i) => (i === at ? own : rule));
}

/** Returns true if two rules mean the same. Servers add and reorder fields. */
export function sameRule(a: LifecycleRule, b: LifecycleRule): boolean {
  return describeRule(a) === describeRule(b) && a.Status === b.Status && prefixOf(a) === prefixOf(b);
}

/** Describes a rule: `to STANDARD_IA after 30 days, removed versions expire after 30 days`. */
export function describeRule(rule: LifecycleRule): string {
  const days = (count: number | undefined) => `${count} ${count === 1 ? 'day' : 'days'}`;
  const parts: string[] = [];
  for (const { Days, Date: date, StorageClass } of rule.Transitions ?? []) {
    parts.push(`to ${StorageClass} ${date ? `on ${isoDate(date)}` : `after ${days(Days)}`}`);
  }
  const { Days, Date: date, ExpiredObjectDeleteMarker } = rule.Expiration ?? {};
  if (Days !== undefined || date !== undefined) {
    parts.push(`objects expire ${date ? `on ${isoDate(date)}` : `after ${days(Days)}`}`);
  }
  for (const { NoncurrentDays, StorageClass } of rule.NoncurrentVersionTransitions ?? []) {
    parts.push(`removed versions to ${StorageClass} after ${days(NoncurrentDays)}`);
  }
  const noncurrent = rule.NoncurrentVersionExpiration?.NoncurrentDays;
  if (noncurrent !== undefined) parts.push(`removed versions expire after ${days(noncurrent)}`);
  const uploads = rule.AbortIncompleteMultipartUpload?.DaysAfterInitiation;
  if (uploads !== undefined) parts.push(`unfinished uploads expire after ${days(uploads)}`);
  if (ExpiredObjectDeleteMarker) parts.push('empty delete markers are removed');
  return parts.join(', ') || 'nothing';
}

/** A rule that deletes what snapshots need, or makes it unreadable. */
export interface RuleProblem {
  rule: string;
  /** describes the effect of the rule */
  what: string;
}

/**
 * Returns the rules that would harm objects below `prefix`: those that expire or archive current objects. Disabled
 * rules, and rules for other prefixes or for tags (Lifeboat sets none), do no harm.
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

/** Compares prefixes as the server does: character by character, not by whole parts. */
function overlaps(a: string, b: string): boolean {
  return a.startsWith(b) || b.startsWith(a);
}

function isoDate(date: Date): string {
  return date.toISOString().slice(0, 10);
}
