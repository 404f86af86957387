import { isSystemError, LifeboatError } from '../base/errors.ts';
import type { Problem } from '../plan/model.ts';
import { decide } from '../prune/prune.ts';
import type { CopyReport } from '../report/events.ts';
import { prolongLocks } from '../run/object-locks.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { manifestKey, objectsOf } from '../store/objects/manifest.ts';
import { deleteUnlessKept } from '../store/objects/objects.ts';
import {
  asUnread,
  type CopyContext,
  copyDocument,
  copySnapshot,
  isAboutSnapshot,
  removeWrong,
} from '../store/repository/copy-objects.ts';
import { DamageJudge, isDamage } from '../store/repository/damage.ts';
import type { Lease } from '../store/repository/lease.ts';
import { type Pin, readPins } from '../store/repository/pins.ts';
import type { Repository, Snapshot, SnapshotList } from '../store/repository/repository.ts';
import {
  deleteTombstone,
  putTombstone,
  readTombstone,
  tombstoneIds,
  tombstoneKey,
} from '../store/repository/tombstones.ts';
import { listContent } from '../store/repository/unreferenced.ts';
import type { CopyDeps, CopyPlace } from './copy.ts';
import { lostProblem, lostSnapshots } from './lost.ts';
import { copyPins, unpin } from './pins.ts';
import { type CopyStep, LEFT_OUT, planCopy, planWithKeep, together } from './plan.ts';

/** The destination, read once for all copies. */
export interface Side extends SnapshotList {
  repository: Repository;
  pins: ReadonlyMap<string, Pin>;
  /** ids of the snapshots that it has removed */
  removed: readonly string[];
}

/** One copy that is being brought up to date. */
interface Copying {
  place: Pick<CopyPlace, 'name' | 'keep' | 'keepsPins'>;
  main: Side;
  repository: Repository;
  /** its counts grow as things are sent */
  report: Pick<CopyReport, 'snapshots' | 'objects' | 'bytes'>;
  /** objects of the destination that are found to be damaged, whatever becomes of the rest */
  bad: Set<string>;
  /** what is still to be done */
  lacking: Set<CopyStep>;
  fence: Lease['fence'];
  signal: AbortSignal;
  /** to be called at each sign of life */
  alive(): void;
}

/**
 * Does what is to be done for one copy, with its lease held: snapshots and tombstones oldest first, then pins. `error`: why some
 * snapshots were left out, because the destination does not have them whole or the copy keeps something wrong; all others are there then.
 *
 * @throws what the copy's destination throws; LEASE_LOST; the signal's reason
 */
export async function bringUpToDate(
  deps: Pick<CopyDeps, 'plan' | 'keep' | 'state' | 'zone' | 'now' | 'log' | 'progress'>,
  copying: Copying,
): Promise<{ error?: LifeboatError; problems: Problem[] }> {
  const { place, main, repository, lacking, signal, alive } = copying;
  const copy = await readCopy(deps, copying);
  const removed = await placesOf(main, copy);
  const steps = planCopy({ ...copy, snapshots: main.snapshots, removed });
  for (const step of steps) lacking.add(step);
  const problems = new Map<string, Problem>();
  const lost = lostSnapshots(copy.snapshots, main, await deps.state.abandoned(main.repository.project));
  if (lost.length > 0) problems.set('lost', lostProblem(place.name, main, lost));
  const context = await contextOf(deps, copying, problems);
  const unreadable = main.damaged.find(({ id }) => !copy.there.has(id) && !copy.gone.has(id));
  let error = unreadable ? notCopied(unreadable.id, unreadable.error) : copy.withheld;
  try {
    for (const step of steps) {
      signal.throwIfAborted();
      alive();
      try {
        await take({ deps, copying, context, step, copy });
        lacking.delete(step);
      } catch (cause) {
        if (step.type === 'tombstone' || !isAboutSnapshot(cause)) throw cause;
        error ??= notCopied(step.snapshot.manifest.id, cause);
      }
    }
  } finally {
    for (const [key, why] of context.bad) if (isDamage(why)) copying.bad.add(key);
  }
  const brought = steps.flatMap((step) =>
    step.type === 'snapshot' && !lacking.has(step) ? [step.snapshot.manifest.id] : [],
  );
  const have = new Set([...copy.there, ...brought]);
  await copyPins(main, repository, have);
  if (!place.keepsPins) await unpin(main, repository);
  return { problems: [...problems.values()], ...(error ? { error } : {}) };
}

interface CopySide {
  /** what can be read there, newest first */
  snapshots: readonly Snapshot[];
  /** hash of each manifest that it has */
  hashes: ReadonlyMap<string, string>;
  /** ids of the manifests that nobody can read there */
  unreadable: ReadonlySet<string>;
  /** that there is a manifest which its disk or server does not give now */
  withheld?: LifeboatError;
  there: ReadonlySet<string>;
  gone: ReadonlySet<string>;
  leftOut: ReadonlySet<string>;
  wanted: ReadonlySet<string>;
}

async function readCopy(
  deps: Pick<CopyDeps, 'plan' | 'keep' | 'state' | 'zone' | 'now'>,
  { place, main, repository, signal }: Copying,
): Promise<CopySide> {
  const { snapshots, damaged } = await repository.snapshots(signal);
  const gone = new Set(await tombstoneIds(repository));
  const unreadable = new Set<string>();
  let withheld: LifeboatError | undefined;
  const usable = new Set(main.snapshots.map(({ manifest }) => manifest.id));
  for (const { id, error } of damaged) {
    // A disk or server that did not let it be read may do so again: nothing is deleted for that.
    if (isSystemError(error.cause)) withheld ??= notRead(place.name, id, error);
    // One that nobody can read is brought anew. One that was forged is for people to look at.
    else if (error.code === 'OBJECT_DAMAGED' && usable.has(id)) unreadable.add(id);
  }
  // One that was removed is not brought anew; beside its tombstone it says nothing.
  for (const id of unreadable) {
    if (gone.has(id)) await deleteUnlessKept(repository.destination, manifestKey(repository.project, id));
  }
  const kept = damaged.filter(({ id }) => !unreadable.has(id));
  const hashes = new Map(snapshots.map(({ manifest, hash }) => [manifest.id, hash]));
  const there = new Set([...hashes.keys(), ...kept.map(({ id }) => id)]);
  const all = together(main.snapshots, snapshots);
  const pins = new Map([...(await readPins(repository)), ...main.pins]);
  const own = { ...deps, plan: planWithKeep(deps.plan, place.keep), keep: place.keep ?? deps.keep };
  // Whatever the clock says: nothing is removed by this.
  const decisions = await decide(own, all, pins, true);
  const wanted = new Set(decisions.filter(({ keep }) => keep).map(({ id }) => id));
  const leftOut = new Set<string>();
  for (const id of wanted) {
    if (!gone.has(id) || there.has(id)) continue;
    if ((await readTombstone(repository, id))?.why === LEFT_OUT) leftOut.add(id);
  }
  return { snapshots, hashes, unreadable, there, gone, leftOut, wanted, ...(withheld ? { withheld } : {}) };
}

/** The removed snapshots of the destination, with the places of those that the copy has to hear of: few, but for a first copy. */
async function placesOf({ repository, removed, snapshots }: Side, { there, gone }: CopySide) {
  const known = new Set(snapshots.map(({ manifest }) => manifest.id));
  const places: { id: string; sequence?: number }[] = [];
  for (const id of removed) {
    const isNew = !known.has(id) && !there.has(id) && !gone.has(id);
    const tombstone = isNew ? await readTombstone(repository, id) : undefined;
    places.push(tombstone ? { id, sequence: tombstone.sequence } : { id });
  }
  return places;
}

async function contextOf(
  deps: Pick<CopyDeps, 'now' | 'log' | 'progress'>,
  { place, main, repository, report, lacking, fence, signal, alive }: Copying,
  problems: Map<string, Problem>,
): Promise<CopyContext> {
  const there = new Map<string, number>();
  const bad = new Map<string, LifeboatError>();
  for await (const { key, size, unread } of listContent(repository.destination, repository.project)) {
    if (size !== undefined) there.set(key, size);
    else if (unread) bad.set(key, asUnread(unread));
  }
  const wanted = [...lacking].flatMap((step) => (step.type === 'snapshot' ? objectsOf(step.snapshot.manifest) : []));
  const sizes = new Map(wanted.map(({ key, size }) => [key, there.get(key) === size ? 0 : size]));
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  let done = 0;
  const heard = (bytes: number) => {
    alive();
    done += bytes;
    deps.progress?.(place.name, done, total);
  };
  // Before the manifest: a snapshot that is there is never looked at again.
  const complete = async (manifest: Manifest) => {
    for (const problem of await prolongLocks(repository, manifest, deps.now(), signal)) {
      const { code, message } = problem;
      deps.log.warn(message, { copy: place.name, snapshot: manifest.id, code });
      // The same for each of many snapshots is told once.
      problems.set(message, problem);
    }
  };
  const stored = new Set(main.snapshots.flatMap(({ manifest }) => objectsOf(manifest).map(({ key }) => key)));
  const judge = new DamageJudge(main.repository, [...stored]);
  const ends = { from: main.repository, to: repository };
  return { ...ends, complete, judge, there, bad, sent: report, fence, heard, signal };
}

interface StepToTake {
  deps: Pick<CopyDeps, 'now'>;
  copying: Copying;
  context: CopyContext;
  step: CopyStep;
  copy: CopySide;
}

async function take({ deps: { now }, copying: { main, repository }, context, step, copy }: StepToTake): Promise<void> {
  const { destination, project } = repository;
  if (step.type === 'tombstone') {
    await copyDocument(main.repository.destination, destination, tombstoneKey(project, step.id));
    return;
  }
  const { manifest, hash } = step.snapshot;
  const { id } = manifest;
  if (copy.unreadable.has(id)) await removeWrong(destination, manifestKey(project, id), 'cannot be read');
  if (step.type === 'leave-out') {
    // Without the key its chain has a gap until somebody has it again: a tombstone that is not signed would be no better.
    if (manifest.signature && !repository.signing.active) return;
    return putTombstone(repository, step.snapshot, { removed: now().toISOString(), why: LEFT_OUT });
  }
  const present = copy.hashes.get(id);
  if (present !== undefined && present !== hash) {
    throw new LifeboatError('OBJECT_DAMAGED', 'its manifest there is another one than at the destination', {
      hint: 'One of the two was changed. Compare them, and delete the wrong one.',
    });
  }
  if (!step.commit && present === undefined) return;
  await copySnapshot(context, step.snapshot, step.commit);
  // After the manifest: whoever is killed in between leaves a tombstone of what is there, which prune removes.
  if (copy.leftOut.has(id)) await deleteTombstone(repository, id);
}

function notCopied(id: string, cause: LifeboatError): LifeboatError {
  return new LifeboatError(cause.code, `${id} is not copied: ${cause.message}`, {
    cause: cause.cause,
    hint: cause.hint ?? 'Run `lifeboat check`. Back up again: what is damaged is stored anew.',
  });
}

function notRead(place: string, id: string, cause: LifeboatError): LifeboatError {
  return new LifeboatError(cause.code, `the manifest of ${id} cannot be read at ${place}`, {
    cause: cause.cause,
    hint: 'Look at the disk or mount behind it, and who owns the file. If it is lost for good, delete it there: the next run sends it again.',
  });
}
