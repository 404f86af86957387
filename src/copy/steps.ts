import { isSystemError, LifeboatError } from '../base/errors.ts';
import type { Problem } from '../plan/model.ts';
import { decide } from '../prune/prune.ts';
import type { CopyReport } from '../report/events.ts';
import { prolongLocks } from '../run/object-locks.ts';
import { type Manifest, manifestKey } from '../store/objects/manifest.ts';
import { deleteUnlessKept } from '../store/objects/objects.ts';
import { SeenLines } from '../store/objects/pack-list.ts';
import { StoredObjects } from '../store/objects/stored-objects.ts';
import {
  asUnread,
  type CopyContext,
  copyDocument,
  isAboutSnapshot,
  removeWrong,
} from '../store/repository/copy-objects.ts';
import { DamageJudge, isDamage } from '../store/repository/damage.ts';
import type { Lease } from '../store/repository/lease.ts';
import { readPins } from '../store/repository/pins.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import { highestSequence, placeOf } from '../store/repository/seen-chain.ts';
import {
  deleteTombstone,
  isOfAnother,
  putTombstone,
  readTombstone,
  tombstoneIds,
  tombstoneKey,
} from '../store/repository/tombstones.ts';
import { listContent } from '../store/repository/unreferenced.ts';
import { bytesToSend, keysOf } from './content.ts';
import type { CopyDeps, CopyPlace, Side } from './context.ts';
import { copySnapshot } from './copy-snapshot.ts';
import { copyDrills } from './drills.ts';
import { isForgotten, lostProblem, lostSnapshots } from './lost.ts';
import { namedThere } from './named-there.ts';
import { notCopied, notRead } from './not-copied.ts';
import { copyPins, unpin } from './pins.ts';
import { type CopyStep, LEFT_OUT, planCopy, planWithKeep, together } from './plan.ts';
import { copyWal } from './wal.ts';

/** One copy that is being updated. */
interface Copying {
  place: Pick<CopyPlace, 'name' | 'keep' | 'keepsPins' | 'suspects'>;
  main: Side;
  repository: Repository;
  /** counts what was sent so far */
  report: Pick<CopyReport, 'snapshots' | 'objects' | 'bytes'>;
  /** keys of damaged objects at the destination, added as they are found, even if the copy fails */
  bad: Set<string>;
  /** the steps that are not done yet */
  lacking: Set<CopyStep>;
  /** called with each sequence that the copy has or may have */
  see(sequence: number): void;
  fence: Lease['fence'];
  signal: AbortSignal;
  /** reports progress to the watchdog */
  alive(): void;
}

/**
 * Updates one copy: snapshots and tombstones, oldest first, then pins and evidence. The caller holds the copy's lease.
 *
 * @returns `error`: why some snapshots are missing, while all others are there. The destination does not have them
 * whole, or the copy does not let a wrong object be replaced. `problems`: locks that could not be extended
 * @throws what the copy's destination throws; LEASE_LOST; the signal's reason
 */
export async function bringUpToDate(
  deps: Pick<CopyDeps, 'plan' | 'keep' | 'state' | 'zone' | 'now' | 'log' | 'progress'>,
  copying: Copying,
): Promise<{ error?: LifeboatError; problems: Problem[] }> {
  const { place, main, repository, lacking, signal, alive } = copying;
  const copy = await readCopy(deps, copying);
  copying.see(highestSequence(copy.snapshots.map(placeOf)));
  const removed = await placesOf(main, copy);
  const steps = planCopy({ ...copy, snapshots: main.snapshots, removed });
  for (const step of steps) lacking.add(step);
  const problems = new Map<string, Problem>();
  const lost = await lostSnapshots(copy.snapshots, main, await deps.state.abandoned(main.repository.project));
  if (lost.length > 0) problems.set('lost', lostProblem(place.name, main, lost));
  const suspects = (await place.suspects?.damaged()) ?? [];
  const had = copy.snapshots.map(({ manifest }) => manifest);
  const context = await contextOf(deps, { ...copying, had }, problems, suspects);
  const unreadable = main.damaged.find(({ id }) => !copy.there.has(id) && !copy.gone.has(id));
  let error = unreadable ? notCopied(unreadable.id, unreadable.error) : copy.withheld;
  try {
    for (const step of steps) {
      signal.throwIfAborted();
      alive();
      // Before the step, because a manifest that was sent may arrive later.
      if (step.type === 'snapshot') copying.see(step.snapshot.manifest.sequence);
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
    if (context.suspects.size < suspects.length) await place.suspects?.saveDamaged([...context.suspects]);
  }
  const brought = steps.flatMap((step) =>
    step.type === 'snapshot' && !lacking.has(step) ? [step.snapshot.manifest.id] : [],
  );
  const have = new Set([...copy.there, ...brought]);
  const there = together(main.snapshots, copy.snapshots).filter(({ manifest }) => have.has(manifest.id));
  error ??= await copyWal({ ...copying, from: main.repository, to: repository }, there);
  await copyPins(main, repository, have);
  for (const one of await copyDrills(main.repository, repository, !place.keepsPins)) problems.set(one.message, one);
  if (!place.keepsPins) await unpin(main, repository, copy.snapshots);
  return { problems: [...problems.values()], ...(error ? { error } : {}) };
}

interface CopySide {
  /** the readable snapshots of the copy, newest first */
  snapshots: readonly Snapshot[];
  /** hash of each readable manifest, by snapshot id */
  hashes: ReadonlyMap<string, string>;
  /** ids of the damaged manifests */
  unreadable: ReadonlySet<string>;
  /** the error of a manifest that the copy's disk or server does not return now */
  withheld?: LifeboatError;
  there: ReadonlySet<string>;
  gone: ReadonlySet<string>;
  /** ids of the wanted snapshots whose tombstone does not say that the copy removed them */
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
  const known = new Map(main.snapshots.map((one) => [one.manifest.id, one]));
  for (const { id, error } of damaged) {
    // The disk or server may return it again later, so it is not deleted.
    if (isSystemError(error.cause)) withheld ??= notRead(place.name, id, error);
    // A damaged manifest is copied again. A forged one is left for people to examine.
    else if (error.code === 'OBJECT_DAMAGED' && (known.has(id) || (await isForgotten(main, id)))) unreadable.add(id);
  }
  // A snapshot with a tombstone is not copied again, so its damaged manifest is of no use.
  for (const id of unreadable) {
    if (gone.has(id)) await deleteUnlessKept(repository.destination, manifestKey(repository.project, id));
  }
  const kept = damaged.filter(({ id }) => !unreadable.has(id));
  const hashes = new Map(snapshots.map(({ manifest, hash }) => [manifest.id, hash]));
  const there = new Set([...hashes.keys(), ...kept.map(({ id }) => id)]);
  const all = together(main.snapshots, snapshots);
  const pins = new Map([...(await readPins(repository)), ...main.pins]);
  const own = { ...deps, plan: planWithKeep(deps.plan, place.keep), keep: place.keep ?? deps.keep };
  // The clock does not matter, because these decisions remove nothing.
  const decisions = await decide(own, all, pins, true);
  const wanted = new Set(decisions.filter(({ keep }) => keep).map(({ id }) => id));
  const leftOut = new Set<string>();
  for (const id of wanted) {
    if (!gone.has(id) || there.has(id)) continue;
    const tombstone = await readTombstone(repository, id);
    if (!tombstone || tombstone.why === LEFT_OUT || isOfAnother(tombstone, known.get(id))) leftOut.add(id);
  }
  return { snapshots, hashes, unreadable, there, gone, leftOut, wanted, ...(withheld ? { withheld } : {}) };
}

/**
 * Returns the snapshots that the destination has removed, with the places of those whose tombstones the copy needs.
 * These are few, except for a new copy.
 */
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
  { place, main, repository, report, lacking, fence, signal, alive, had }: Copying & { had: readonly Manifest[] },
  problems: Map<string, Problem>,
  suspects: readonly string[],
): Promise<CopyContext> {
  const there = new StoredObjects();
  const bad = new Map<string, LifeboatError>();
  for await (const object of listContent(repository.destination, repository.project)) {
    if (object.size !== undefined) there.addListed(object);
    else if (object.unread) bad.set(object.key, asUnread(object.unread));
  }
  const total = await bytesToSend(main, lacking, there, signal);
  let done = 0;
  const onBytes = (bytes: number) => {
    alive();
    done += bytes;
    deps.progress?.(place.name, done, total);
  };
  // This happens before the manifest is put, because a committed snapshot is not examined again.
  const complete = async (manifest: Manifest) => {
    for (const problem of await prolongLocks(repository, manifest, deps.now(), signal)) {
      const { code, message } = problem;
      deps.log.warn(message, { copy: place.name, snapshot: manifest.id, code });
      // A problem that many snapshots share is reported once.
      problems.set(message, problem);
    }
  };
  const judge = new DamageJudge(main.repository, () => keysOf(main.repository));
  const judgeThere = new DamageJudge(repository, async () => [...there.keys()]);
  const ends = { from: main.repository, to: repository, judgeThere };
  const objects = { there, checked: new SeenLines(), suspects: new Set(suspects), bad };
  const named = (keys: ReadonlySet<string>) => namedThere({ ...ends, signal }, had, keys);
  return { ...ends, namedThere: named, complete, judge, ...objects, sent: report, fence, onBytes, signal };
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
    // An unsigned tombstone would not close the gap in a signed chain. The gap stays until a run with the key.
    if (manifest.signature && !repository.signing.active) return;
    return putTombstone(repository, step.snapshot, { removed: now().toISOString(), why: LEFT_OUT });
  }
  const present = copy.hashes.get(id);
  if (present !== undefined && present !== hash) {
    throw new LifeboatError('OBJECT_DAMAGED', 'its manifest there differs from the one at the destination', {
      hint: 'One of the two was changed. Compare them and delete the wrong one.',
    });
  }
  if (!step.commit && present === undefined) return;
  await copySnapshot(context, step.snapshot, step.commit);
  // This happens after the commit: an agent killed in between leaves a superfluous tombstone, which a prune removes.
  if (copy.leftOut.has(id)) await deleteTombstone(repository, id);
}
