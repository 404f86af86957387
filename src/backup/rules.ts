import { type ErrorInfo, LifeboatError } from '../base/errors.ts';
import { type Accepted, isAccepted } from '../plan/accepted.ts';
import type { PlannedSource, Problem } from '../plan/model.ts';
import { encryptionOf, encryptionOfName, type SealKeys } from '../plan/seal-keys.ts';
import { isFuture } from '../plan/values/clock.ts';
import type { RunStatus, SourceReport } from '../report/events.ts';
import { lastStoredOf } from '../run/history.ts';
import { type Hold, holdOf } from '../run/hold.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { objectsOf } from '../store/repository/repository.ts';
import type { Signing } from '../store/repository/signing.ts';

/** The decisions of a run that need no I/O. */

/** Sources that are captured under one hold of their container, so that it is stopped once for all its volumes. */
interface HoldGroup {
  hold?: Hold;
  sources: PlannedSource[];
}

/** Databases first: what they hold refers to the files, and a file stored later than its row is never missed. */
export function groupByHold(sources: readonly PlannedSource[]): HoldGroup[] {
  const rank = { postgres: 0, volume: 1, files: 2 };
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

/** The end of the chain of manifests: the newest one, but for a clock that was wrong for a while. */
function endOfChain<T extends { manifest: Manifest }>(snapshots: readonly T[]): T | undefined {
  return snapshots.reduce<T | undefined>(
    (last, one) => (last && last.manifest.sequence >= one.manifest.sequence ? last : one),
    undefined,
  );
}

/** The newest snapshot has a date that is still to come: a warning, once, since the next run has this one for the newest. */
export function clockProblems(snapshots: readonly { manifest: Manifest }[], now: Date): Problem[] {
  const newest = endOfChain(snapshots)?.manifest;
  if (!newest || !isFuture(Date.parse(newest.end), now.getTime())) return [];
  return [
    {
      severity: 'warning',
      code: 'CLOCK_JUMPED',
      subject: newest.id,
      message: `the newest snapshot is dated ${newest.end}, and now is ${now.toISOString()}`,
      hint: 'The clock of the host was ahead then, or is behind now: set it. Snapshots stay in the order in which they were made.',
    },
  ];
}

/**
 * Once signed, always signed: a snapshot without could not be told from one that somebody forged.
 *
 * @throws SIGNATURE_KEY
 */
export function refuseUnsigned(signing: Signing, snapshots: readonly { manifest: Manifest }[]): void {
  const keyId = endOfChain(snapshots)?.manifest.signature?.keyId;
  if (keyId === undefined || signing.active) return;
  throw new LifeboatError('SIGNATURE_KEY', 'the snapshots here are signed, and no signing key is set', {
    hint: `Set LIFEBOAT_SIGNING_KEY again (key ${keyId}). If the key is lost, begin anew at an empty LIFEBOAT_DESTINATION.`,
  });
}

/**
 * Once encrypted, always encrypted, unless somebody says otherwise: a key that a typo in the settings takes away would store
 * everything again in the clear.
 *
 * @throws KEY_MISSING
 */
export function refuseClear(keys: SealKeys, snapshots: readonly { manifest: Manifest }[]): void {
  if (encryptionOf(keys) !== undefined || keys.inTheClear) return;
  const newest = endOfChain(snapshots)?.manifest;
  if (!newest || !objectsOf(newest).some(({ key }) => encryptionOfName(key) !== undefined)) return;
  throw new LifeboatError('KEY_MISSING', 'the snapshots here are encrypted, and no key to encrypt with is set', {
    hint: 'Set it again, LIFEBOAT_AGE_RECIPIENTS say: an empty variable counts as none. To go on in the clear, set LIFEBOAT_ENCRYPTION: none.',
  });
}

/** How long a new container may take to write its first file, milliseconds. */
const FILLING_MS = 3_600_000;

/**
 * Says what to make of a source without any file. `accepted`: a person has said that it is right. `never filled`: the label asks for
 * all volumes, and this one never held a file. `not filled yet`: its container is new. `lost`: everything else.
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
  if (acceptance && (neverFilled || (last && isAccepted(acceptance, last)))) return 'accepted';
  if (!neverFilled) return 'lost';
  if (planned.kind === 'volume' && planned.all) return 'never filled';
  const { createdAt } = planned.life ?? {};
  const isNew = createdAt !== undefined && now.getTime() - Date.parse(createdAt) < FILLING_MS;
  return isNew && lastStored === undefined ? 'not filled yet' : 'lost';
}

/** The failure of a source without any file. */
export function emptyError({ name }: PlannedSource): LifeboatError {
  return new LifeboatError('TREE_EMPTY', `${name} holds no files at all`, {
    hint: `Check that it is the right volume or path; if it is meant to be empty, say so with \`lifeboat accept ${name}\`.`,
  });
}

/** The outcome of a run: ok only when everything that was asked for is stored. */
export function runStatus(results: readonly SourceReport[], problems: readonly Problem[]): RunStatus {
  const good = results.filter((result) => result.status !== 'failed');
  if (good.length === 0) return 'failed';
  const whole = results.every((result) => result.status === 'ok');
  return whole && !problems.some((problem) => problem.severity === 'error') ? 'ok' : 'partial';
}

/** Why the run as a whole failed when no source of it says so: there was none. */
export function emptyRunError(problems: readonly Problem[]): ErrorInfo {
  const [first] = problems.filter((problem) => problem.severity === 'error');
  if (!first) return { code: 'NOTHING_LABELLED', message: 'no source to back up' };
  const { code, message, hint } = first;
  return hint === undefined ? { code, message } : { code, message, hint };
}
