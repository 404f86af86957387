import { LifeboatError } from '../base/errors.ts';
import type { S3Bucket, SetupOutcome } from '../destinations/s3/bucket.ts';
import type { RuleProblem } from '../destinations/s3/rules.ts';
import type { SetupWish } from '../destinations/s3/setup.ts';
import type { UndeleteResult } from '../destinations/s3/undelete.ts';
import type { Problem } from '../plan/model.ts';

/** The options of `bucket setup`. Periods in days. */
export interface SetupRequest {
  infrequentAfter?: number;
  keepRemoved?: number;
  archiveRemovedAfter?: number;
  deepArchive?: boolean;
  lock?: number;
  lockMode?: 'governance' | 'compliance';
  wholeBucket?: boolean;
  /** apply the settings; otherwise only show them */
  yes?: boolean;
}

/** Defaults in days: how long removed objects stay as versions, and how long unfinished uploads stay. */
const KEEP_REMOVED = 30;
const KEEP_UPLOADS = 7;
/** AWS moves no object to STANDARD_IA earlier. */
const INFREQUENT = 30;

/**
 * Turns the options into the wanted settings.
 *
 * @throws USAGE for options that contradict one another
 */
export function wishOf(request: SetupRequest): SetupWish {
  const { infrequentAfter: infrequent, archiveRemovedAfter, deepArchive, lock, lockMode, wholeBucket } = request;
  const removed = request.keepRemoved ?? Math.max(KEEP_REMOVED, lock ?? 0);
  const refuse = (message: string, hint: string) => new LifeboatError('USAGE', message, { hint });
  if (infrequent !== undefined && infrequent < INFREQUENT) {
    throw refuse(
      '--infrequent-after is too early',
      `Use ${INFREQUENT}d or more: no object moves to STANDARD_IA earlier.`,
    );
  }
  if (lock !== undefined && removed < lock) {
    const hint =
      'Raise it: locked objects stay anyway, and you need them to bring back a repository that somebody deleted.';
    throw refuse('--keep-removed is shorter than --lock', hint);
  }
  if (archiveRemovedAfter !== undefined && archiveRemovedAfter >= removed) {
    throw refuse('--archive-removed-after is not shorter than --keep-removed', 'Raise --keep-removed.');
  }
  if (archiveRemovedAfter === undefined && deepArchive) {
    throw refuse('--deep-archive needs --archive-removed-after', 'Add --archive-removed-after with a number of days.');
  }
  if (lockMode !== undefined && lock === undefined) {
    throw refuse('--lock-mode needs --lock', 'Add --lock with a number of days.');
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

/** Sets up a bucket for backups, or returns what would change. Throws USAGE, and the errors of reading the settings. */
export async function setUpBucket(bucket: S3Bucket, request: SetupRequest): Promise<SetupOutcome> {
  const wish = wishOf(request);
  return request.yes ? bucket.setUp(wish) : bucket.plan(wish);
}

/**
 * Returns a repository to an earlier time, from the versions in the bucket. The present objects stay as versions, so
 * nothing is lost.
 *
 * @throws USAGE for a bucket without versioning, or a time in the future; the errors of listing; the signal's reason
 */
export async function undelete(
  bucket: S3Bucket,
  { before, yes, now, signal }: { before: Date; yes: boolean; now: Date; signal: AbortSignal },
): Promise<UndeleteResult> {
  if (before.getTime() > now.getTime()) {
    const hint = 'Give a time before the damage. For example, `--before 2026-11-20T00:00Z` is midnight UTC.';
    throw new LifeboatError('USAGE', '--before is in the future', { hint });
  }
  const { exists, versioning } = await bucket.look();
  if (!exists || ('value' in versioning && !versioning.value)) {
    // Without versioning, everything that this hides or overwrites would be lost.
    const hint =
      'Only objects that were stored with versioning on can be restored. Switch it on (`lifeboat bucket setup`), then try again.';
    throw new LifeboatError('USAGE', `${bucket.s3.name} keeps no versions now`, { hint });
  }
  return bucket.undelete({ at: before.getTime(), dryRun: !yes, signal });
}

/** Words the lifecycle rules that would harm backups as problems. */
export function ruleProblems(name: string, rules: readonly RuleProblem[]): Problem[] {
  return rules.map(({ rule, what }) => ({
    severity: 'error',
    code: 'DEST_RULES',
    subject: name,
    message: `the lifecycle rule ${JSON.stringify(rule)} of the bucket applies to backups: ${what}`,
    hint: 'The newest snapshot needs packs of any age. Limit the rule to other prefixes, or remove it.',
  }));
}
