import { type ErrorInfo, LifeboatError } from '../base/errors.ts';
import { type Accepted, coversLoss, isAccepted } from '../plan/accepted.ts';
import type { PlannedSource, Problem } from '../plan/model.ts';
import { encryptionOf, encryptionOfName, type SealKeys } from '../plan/seal-keys.ts';
import { isFuture } from '../plan/values/clock.ts';
import type { RunStatus, SourceReport } from '../report/events.ts';
import { formatWhen } from '../report/format.ts';
import { problemText } from '../report/problem-text.ts';
import { lastStoredOf } from '../run/history.ts';
import { type Hold, holdOf } from '../run/hold.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { documentsOf } from '../store/objects/manifest.ts';
import type { Signing } from '../store/repository/signing.ts';
import type { HoldGroup } from './freeze.ts';

/** Decisions of a run that need no I/O. */

/**
 * Groups sources by hold. Databases come first: rows refer to files, so a file is stored after the row that names it.
 */
export function groupByHold(sources: readonly PlannedSource[]): HoldGroup[] {
  const rank = { postgres: 0, base: 1, volume: 2, files: 3 };
  const groups: HoldGroup[] = [];
  const held = new Map<string, HoldGroup & { hold: Hold }>();
  for (const source of [...sources].sort((a, b) => rank[a.kind] - rank[b.kind])) {
    const hold = holdOf(source);
    const open = hold && held.get(hold.container.id);
    if (hold && open) {
      open.sources.push(source);
      const known = new Set(open.hold.stop.map(({ id }) => id));
      open.hold.stop = [...open.hold.stop, ...hold.stop.filter(({ id }) => !known.has(id))];
    } else if (hold) {
      const group = { hold, sources: [source] };
      held.set(hold.container.id, group);
      groups.push(group);
    } else {
      groups.push({ sources: [source] });
    }
  }
  return groups;
}

/**
 * Returns the snapshot at the end of the chain of manifests. It may not have the newest date, if a clock was wrong for
 * a while.
 */
function endOfChain<T extends { manifest: Manifest }>(snapshots: readonly T[]): T | undefined {
  return snapshots.reduce<T | undefined>(
    (last, one) => (last && last.manifest.sequence >= one.manifest.sequence ? last : one),
    undefined,
  );
}

/**
 * Returns a warning if the newest snapshot is dated in the future. The warning comes once: the next run finds this
 * run's snapshot.
 */
export function clockProblems(
  snapshots: readonly { manifest: Manifest }[],
  { now, zone }: { now: Date; zone: string },
): Problem[] {
  const newest = endOfChain(snapshots)?.manifest;
  if (!newest || !isFuture(Date.parse(newest.end), now.getTime())) return [];
  return [
    {
      severity: 'warning',
      code: 'CLOCK_JUMPED',
      subject: newest.id,
      message: `the newest snapshot is dated ${formatWhen(new Date(newest.end), { now, zone })}, which is in the future`,
      hint: 'The clock of the host was ahead then, or is behind now. Correct it. Snapshots stay in the order in which they were made.',
    },
  ];
}

/**
 * Refuses to store an unsigned snapshot after signed ones, because nobody could distinguish it from a forged one.
 *
 * @throws SIGNATURE_KEY
 */
export function refuseUnsigned(signing: Signing, snapshots: readonly { manifest: Manifest }[]): void {
  const keyId = endOfChain(snapshots)?.manifest.signature?.keyId;
  if (keyId === undefined || signing.active) return;
  throw new LifeboatError('SIGNATURE_KEY', 'the snapshots here are signed, and no signing key is set', {
    hint: `Set LIFEBOAT_SIGNING_KEY again (key ${keyId}). If the key is lost, start again at an empty LIFEBOAT_DESTINATION.`,
  });
}

/**
 * Refuses to store without encryption after encrypted snapshots, unless a setting allows it. Otherwise a typo in the
 * name of a key's setting would store everything again in the clear.
 *
 * @throws KEY_MISSING
 */
export function refuseClear(keys: SealKeys, snapshots: readonly { manifest: Manifest }[]): void {
  if (encryptionOf(keys) !== undefined || keys.inTheClear) return;
  const newest = endOfChain(snapshots)?.manifest;
  if (!newest || !documentsOf(newest).some(({ key }) => encryptionOfName(key) !== undefined)) return;
  throw new LifeboatError('KEY_MISSING', 'the snapshots here are encrypted, and no key to encrypt with is set', {
    hint: 'Set the key again, for example LIFEBOAT_AGE_RECIPIENTS. An empty variable counts as none. To continue without encryption, set LIFEBOAT_ENCRYPTION: none.',
  });
}

/** The time that a new container may take to write its first file, milliseconds. */
const FILLING_MS = 3_600_000;

/**
 * Judges a source without any file. `accepted`: a person accepted it. `never filled`: the label selects all volumes,
 * and this one never held a file. `not filled yet`: its container is new. `lost`: everything else.
 *
 * @param snapshots of the project, newest first
 */
export function judgeEmpty(
  planned: PlannedSource,
  { snapshots, accepted, now }: { snapshots: readonly Manifest[]; accepted: Accepted; now: Date },
): 'accepted' | 'never filled' | 'not filled yet' | 'lost' {
  const lastStored = lastStoredOf(snapshots, planned.name);
  const last = snapshots.find(({ id }) => id === lastStored?.snapshot);
  const acceptance = accepted[planned.name];
  const neverFilled = lastStored === undefined || lastStored.entry.files === 0;
  if (coversLoss(acceptance, 'empty') && (neverFilled || (last && isAccepted(acceptance, last)))) return 'accepted';
  if (!neverFilled) return 'lost';
  if (planned.kind === 'volume' && planned.all) return 'never filled';
  const { createdAt } = planned.life ?? {};
  const isNew = createdAt !== undefined && now.getTime() - Date.parse(createdAt) < FILLING_MS;
  return isNew ? 'not filled yet' : 'lost';
}

/** Returns TREE_EMPTY, the failure of a source without any file. */
export function emptyError({ name }: PlannedSource): LifeboatError {
  return new LifeboatError('TREE_EMPTY', `${name} holds no files at all`, {
    hint: `Check that it is the right volume or path; if it is meant to be empty, run \`lifeboat accept ${name}\`.`,
  });
}

/** Returns the status of a run: `ok` only if everything requested is stored. */
export function runStatus(results: readonly SourceReport[], problems: readonly Problem[]): RunStatus {
  const good = results.filter((result) => result.status !== 'failed');
  if (good.length === 0) return 'failed';
  const whole = results.every((result) => result.status === 'ok');
  return whole && !problems.some((problem) => problem.severity === 'error') ? 'ok' : 'partial';
}

/** Returns why a run without any source failed, and the problems that this error does not say. */
export function emptyRunError(problems: readonly Problem[]): { error: ErrorInfo; problems: Problem[] } {
  const first = problems.find(({ severity }) => severity === 'error');
  if (!first) return { error: { code: 'NOTHING_LABELLED', message: 'no source to back up' }, problems: [...problems] };
  const { severity: _, subject: __, ...why } = first;
  return {
    error: { ...why, message: problemText(first) },
    problems: problems.filter((problem) => problem !== first),
  };
}
