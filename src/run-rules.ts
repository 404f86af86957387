import { type ErrorInfo, LifeboatError } from './errors.ts';
import { type Accepted, isAccepted } from './plan/accepted.ts';
import { isFuture } from './plan/clock.ts';
import type { Mount, Plan, PlannedSource, Problem } from './plan/model.ts';
import { mountHolding } from './plan/mounts.ts';
import { isS3 } from './plan/s3-location.ts';
import { encryptionOf, encryptionOfName, type SealKeys } from './plan/seal-keys.ts';
import type { RunStatus, SourceReport } from './report/events.ts';
import type { Manifest, ManifestSource } from './store/manifest.ts';
import { objectsOf } from './store/repository.ts';
import type { Signing } from './store/signing.ts';
import { type Hold, holdOf } from './with-hold.ts';

/** The decisions of a run that need no I/O. */

/** Sources that are captured under one hold of their container, so that it is stopped once for all its volumes. */
export interface HoldGroup {
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

/** An entry of a source, with the snapshot it stands in. */
export interface LastGood {
  snapshot: string;
  at: string;
  entry: ManifestSource;
}

/**
 * The last good entry of a source in snapshots (newest first): of one that was always stored in part, the newest there is. A
 * safety snapshot does not count: it holds what somebody wanted to get away from.
 */
export function lastGoodOf(snapshots: readonly Manifest[], source: string): LastGood | undefined {
  return newestOf(snapshots, source, ['ok']) ?? lastStoredOf(snapshots, source);
}

/** The same, but the newest even if a part of it could not be read: what the next tree is compared with. */
export function lastStoredOf(snapshots: readonly Manifest[], source: string): LastGood | undefined {
  return newestOf(snapshots, source, ['ok', 'partial']);
}

function newestOf(
  snapshots: readonly Manifest[],
  source: string,
  statuses: readonly ManifestSource['status'][],
): LastGood | undefined {
  for (const { id, end, trigger, sources } of snapshots) {
    const entry = sources[source];
    if (entry && statuses.includes(entry.status) && trigger !== 'safety') return { snapshot: id, at: end, entry };
  }
  return undefined;
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

/**
 * Sources that snapshots (newest first) speak of but the plan does not: they vanished. One that a person accepted
 * after its last backup is left out.
 */
export function vanishedSources(
  snapshots: readonly Manifest[],
  plan: Plan,
  accepted: Accepted,
): { name: string; kind: SourceReport['kind']; lastGood?: LastGood }[] {
  const known = new Map<string, ManifestSource>();
  for (const { sources } of snapshots) {
    for (const [name, entry] of Object.entries(sources)) if (!known.has(name)) known.set(name, entry);
  }
  for (const { name } of plan.sources) known.delete(name);
  return [...known].flatMap(([name, { kind }]) => {
    const lastGood = lastGoodOf(snapshots, name);
    const lastStored = snapshots.find(({ id }) => id === lastStoredOf(snapshots, name)?.snapshot);
    const acceptance = accepted[name];
    if (acceptance && (lastStored === undefined || isAccepted(acceptance, lastStored))) return [];
    return [lastGood ? { name, kind, lastGood } : { name, kind }];
  });
}

/** The outcome of a run: ok only when everything that was asked for is stored. */
export function runStatus(results: readonly SourceReport[], problems: readonly Problem[]): RunStatus {
  const good = results.filter((result) => result.status !== 'failed');
  if (good.length === 0) return 'failed';
  const whole = results.every((result) => result.status === 'ok');
  return whole && !problems.some((problem) => problem.severity === 'error') ? 'ok' : 'partial';
}

/**
 * Warnings about a source that has lost more than `share` (0 to 1) of what it had in its last good snapshot. `likeSizes`: false
 * when the two are written in different ways, so that bytes say nothing.
 */
export function fallWarnings(
  before: Pick<ManifestSource, 'bytes' | 'files' | 'rows'> | undefined,
  now: { bytes: number; files: number; rows?: number; likeSizes?: boolean },
  share: number,
): string[] {
  if (!before) return [];
  const warnings: string[] = [];
  const compare = (what: string, was: number | undefined, is: number | undefined) => {
    if (was === undefined || is === undefined || was === 0 || is >= was * (1 - share)) return;
    const percent = Math.round((1 - is / was) * 100);
    warnings.push(
      `${what} fell by ${percent} % since the last good snapshot: from ${was.toLocaleString('en-US')} to ${is.toLocaleString('en-US')}`,
    );
  };
  const isCounted = now.rows !== undefined && before.rows !== undefined;
  compare('rows', before.rows, now.rows);
  // As many rows may hold less: a column that was emptied.
  if (now.likeSizes !== false) compare('size in bytes', before.bytes, now.bytes);
  // A dump has a file for each table, whatever is in it.
  if (!isCounted) compare('number of files', before.files, now.files);
  return warnings;
}

/** Why the run as a whole failed when no source of it says so: there was none. */
export function emptyRunError(problems: readonly Problem[]): ErrorInfo {
  const [first] = problems.filter((problem) => problem.severity === 'error');
  if (!first) return { code: 'NOTHING_LABELLED', message: 'no source to back up' };
  const { code, message, hint } = first;
  return hint === undefined ? { code, message } : { code, message, hint };
}

/**
 * Why nothing may be stored at the destination `path` of the agent, judged by its own mounts; undefined when it may. `writing`: false when
 * it is only to be read.
 */
export function destinationError(path: string, mounts: readonly Mount[], writing: boolean): LifeboatError | undefined {
  if (isS3(path)) return undefined;
  const mount = mountHolding(path, mounts);
  if (!mount || mount.type === 'tmpfs') {
    const where = mount ? 'is in memory' : "is on the Lifeboat container's own disk";
    return new LifeboatError('DEST_NOT_MOUNTED', `${path} ${where}, which would be lost with the container`, {
      hint: `Mount a volume or a directory of the host at ${path} of the Lifeboat service.`,
    });
  }
  if (mount.writable || !writing) return undefined;
  return new LifeboatError('DEST_UNWRITABLE', `${path} is mounted read-only`, {
    hint: `Remove :ro from the mount at ${mount.destination} of the Lifeboat service.`,
  });
}
