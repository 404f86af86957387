import { LifeboatError } from '../base/errors.ts';
import type { S3Bucket, SetupOutcome } from '../destinations/s3/bucket.ts';
import type { Mended } from '../destinations/s3/mend.ts';
import type { RuleProblem } from '../destinations/s3/rules.ts';
import type { SetupWish } from '../destinations/s3/setup.ts';
import type { Problem } from '../plan/model.ts';

/** What is asked of `bucket setup`. Days. */
export interface SetupRequest {
  infrequentAfter?: number;
  keepRemoved?: number;
  archiveRemovedAfter?: number;
  deepArchive?: boolean;
  lock?: number;
  lockMode?: 'governance' | 'compliance';
  wholeBucket?: boolean;
  /** without it only what would be set is told */
  yes?: boolean;
}

/** How long what was removed can be brought back when nobody says, and uploads that nobody finished are left, days. */
const KEEP_REMOVED = 30;
const KEEP_UPLOADS = 7;
/** AWS moves nothing to STANDARD_IA earlier. */
const INFREQUENT = 30;

/** @throws USAGE when what is asked does not go together */
export function wishOf(request: SetupRequest): SetupWish {
  const { infrequentAfter: infrequent, archiveRemovedAfter, deepArchive, lock, lockMode, wholeBucket } = request;
  const removed = request.keepRemoved ?? Math.max(KEEP_REMOVED, lock ?? 0);
  const refuse = (message: string, hint: string) => new LifeboatError('USAGE', message, { hint });
  if (infrequent !== undefined && infrequent < INFREQUENT) {
    throw refuse('--infrequent-after is too early', `Nothing is moved to STANDARD_IA before ${INFREQUENT} days.`);
  }
  if (lock !== undefined && removed < lock) {
    const hint = 'What is locked cannot go anyway, and is what brings a repository back that somebody deleted.';
    throw refuse('--keep-removed is shorter than --lock', hint);
  }
  if (archiveRemovedAfter !== undefined && archiveRemovedAfter >= removed) {
    throw refuse('--archive-removed-after comes after what was removed is gone', 'Raise --keep-removed.');
  }
  if (archiveRemovedAfter === undefined && deepArchive) {
    throw refuse('--deep-archive goes with --archive-removed-after', 'Name the days after which it is to be used.');
  }
  if (lockMode !== undefined && lock === undefined) {
    throw refuse('--lock-mode goes with --lock', 'Name the days for which what is stored is to be locked.');
  }
  const storageClass = deepArchive ? 'DEEP_ARCHIVE' : 'GLACIER';
  return {
    rule: {
      ...(infrequent === undefined ? {} : { infrequent }),
      removed,
      ...(archiveRemovedAfter === undefined ? {} : { archive: { days: archiveRemovedAfter, storageClass } }),
      uploads: KEEP_UPLOADS,
    },
    ...(lock === undefined
      ? {}
      : { lock: { mode: lockMode === 'compliance' ? ('COMPLIANCE' as const) : ('GOVERNANCE' as const), days: lock } }),
    wholeBucket: wholeBucket === true,
  };
}

/** Sets a bucket up for backups, or tells what it would set. Throws USAGE, and what the first look throws. */
export async function setUpBucket(bucket: S3Bucket, request: SetupRequest): Promise<SetupOutcome> {
  const wish = wishOf(request);
  return request.yes ? bucket.setUp(wish) : bucket.plan(wish);
}

/**
 * Makes a repository what it was at a time, out of the versions that the bucket kept. Nothing is lost by it: what is there now stays
 * among the versions.
 *
 * @throws USAGE for a bucket that keeps no versions, or a time that is not past; what listing throws; the signal's reason
 */
export async function undelete(
  bucket: S3Bucket,
  { before, yes, now, signal }: { before: Date; yes: boolean; now: Date; signal: AbortSignal },
): Promise<Mended> {
  if (before.getTime() > now.getTime()) {
    const hint = 'Name a time before the damage was done; `--before 2026-11-20T00:00Z` is midnight in Greenwich.';
    throw new LifeboatError('USAGE', '--before is in the future', { hint });
  }
  const { exists, versioning } = await bucket.look();
  if (!exists || ('value' in versioning && !versioning.value)) {
    // Without versioning what is hidden or overwritten by the mending would be lost.
    const hint =
      'Only what was stored while versioning was on can be brought back: switch it on (`lifeboat bucket setup`), then look again.';
    throw new LifeboatError('USAGE', `${bucket.s3.name} keeps no versions now`, { hint });
  }
  return bucket.mend({ at: before.getTime(), dryRun: !yes, signal });
}

/** Rules that would harm backups, as problems that people are told. */
export function ruleProblems(name: string, rules: readonly RuleProblem[]): Problem[] {
  return rules.map(({ rule, what }) => ({
    severity: 'error',
    code: 'DEST_RULES',
    subject: name,
    message: `the lifecycle rule ${JSON.stringify(rule)} of the bucket applies to backups: ${what}`,
    hint: 'Packs of any age are needed by the newest snapshot too. Limit the rule to other prefixes, or remove it.',
  }));
}
