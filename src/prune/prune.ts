import { LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Decision, decideKept } from '../plan/keep.ts';
import type { KeepPolicy, Plan } from '../plan/model.ts';
import { checkClock } from '../plan/values/clock.ts';
import type { Pruned } from '../report/events.ts';
import { journalObjects, openJournals } from '../run/journal.ts';
import { listSourceStatuses } from '../run/source-status.ts';
import type { State } from '../run/state.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { objectsOf } from '../store/objects/manifest.ts';
import { fenceOften } from '../store/repository/fence-often.ts';
import type { Lease } from '../store/repository/lease.ts';
import { type Pin, readPins } from '../store/repository/pins.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import {
  deleteDue,
  listContent,
  readUnreferenced,
  type Unreferenced,
  writeUnreferenced,
} from '../store/repository/unreferenced.ts';
import type { ClockWatch } from './clock-jump.ts';
import { keepRules, keepSnapshot } from './decide.ts';
import { KEPT, markStaying, removeSnapshots } from './remove.ts';
import { listUnneededWal } from './wal.ts';

/** How long an object must be unreferenced before it is deleted, milliseconds. */
const SECOND_PASS_MS = 24 * 60 * 60 * 1000;

export interface PruneDeps {
  repository: Repository;
  plan: Plan;
  /** LIFEBOAT_KEEP */
  keep: KeepPolicy;
  state: Pick<State, 'accepted' | 'results'>;
  /** directory of the journals; objects that a run announced are not deleted while its journal exists */
  journals: string;
  zone: string;
  now(): Date;
  log: Log;
  /**
   * proves that no other agent writes to the repository, at most half a minute before each deletion; unused in a dry
   * run
   */
  fence: Lease['fence'];
  /** returns an error if the clock was set since the run or command began: nothing is removed then */
  clockJump: ClockWatch;
  signal: AbortSignal;
}

export interface PruneRequest {
  /** changes nothing, only returns what would be removed */
  dryRun: boolean;
  /** skips the checks of the clock: it is right, however old the newest snapshots are */
  clockIsRight?: boolean;
}

/** The decision on one snapshot, for people. */
interface PrunedSnapshot extends Decision {
  /** ISO time of the run's start */
  start: string;
  status: Manifest['status'];
  trigger: Manifest['trigger'];
}

/** The result of a prune, or, with `dryRun`, its expected result. Sizes in bytes, as stored. */
export interface PruneResult extends Pruned {
  dryRun: boolean;
  /** every snapshot, newest first */
  decisions: PrunedSnapshot[];
  /** objects that no snapshot names any more, and when the first of them may be deleted (ISO time) */
  waiting: { objects: number; bytes: number; from?: string };
}

/**
 * Removes the snapshots that no source needs, and the objects that have been unreferenced for a day. The caller must
 * hold the lock, except for a dry run. If a prune is killed or aborted at any point, the repository stays consistent
 * and the next prune continues.
 *
 * First, the prune deletes objects that were found unreferenced long enough ago, because a full disk has no room for
 * anything else. Then it removes snapshots, each with its tombstone written before its manifest is deleted. Finally it
 * records the objects that only these snapshots named.
 *
 * @throws OBJECT_DAMAGED if a manifest is unreadable, because it could name any object; CLOCK_JUMPED; SETTING_INVALID
 * for a policy that keeps nothing; what the destination throws; the signal's reason
 */
export async function prune(deps: PruneDeps, request: PruneRequest): Promise<PruneResult> {
  const { destination, project } = deps.repository;
  const { snapshots, damaged } = await deps.repository.snapshots(deps.signal);
  refuseDamaged(damaged);
  const pins = await readPins(deps.repository);
  const decisions = await decide(deps, snapshots, pins, request.clockIsRight === true);
  const toRemove = new Set(snapshots.filter((_, i) => !decisions[i]?.keep));
  const garbage = await findGarbage(deps, snapshots, toRemove);
  // All decisions are made by now, so a later change of the clock does no harm.
  const jump = request.clockIsRight ? undefined : deps.clockJump();
  if (jump) throw jump;
  if (!request.dryRun) {
    const prove = fenceOften(deps.fence, deps.now);
    await prove(true);
    // Oldest first, so that locked objects come last.
    const due = garbage.due.toSorted((a, b) => a.since - b.since);
    const kept = await deleteDue(destination, due, { signal: deps.signal, prove });
    garbage.due = due.filter((one) => !kept.includes(one));
    await prove(true);
    const staying = await removeSnapshots({ ...deps, prove }, snapshots, toRemove);
    for (const key of namedBy([...staying.keys()])) garbage.waiting.delete(key);
    const left: Unreferenced = new Map([...garbage.waiting].map(([key, { since }]) => [key, since]));
    for (const { key, since } of kept) left.set(key, since);
    await writeUnreferenced(destination, project, left, deps.now());
    deps.log.info('pruned', {
      snapshots: toRemove.size - staying.size,
      objects: garbage.due.length,
      kept: kept.length,
    });
    const result = outcome(request, snapshots, markStaying(decisions, staying), garbage);
    const refused = { snapshots: [...staying.values()].filter((why) => why === KEPT).length, objects: kept.length };
    return refused.snapshots + refused.objects > 0 ? { ...result, refused } : result;
  }
  return outcome(request, snapshots, decisions, garbage);
}

function refuseDamaged(damaged: readonly { id: string; error: LifeboatError }[]): void {
  const [first] = damaged;
  if (!first) return;
  // It could name any object.
  const { code, message, hint } = first.error;
  if (code === 'CHAIN_BROKEN' || code === 'SIGNATURE_KEY') {
    throw new LifeboatError(code, `${message}, so nothing may be deleted`, hint === undefined ? {} : { hint });
  }
  throw new LifeboatError('OBJECT_DAMAGED', `the manifest of ${first.id} cannot be used, so nothing may be deleted`, {
    cause: first.error,
    hint: 'It could name any object. Restore it from another copy of the backups. `lifeboat check` reports the details.',
  });
}

/** Returns the retention's decisions on snapshots (newest first), in the same order. Throws like {@link prune}. */
export async function decide(
  { plan, keep, state, zone, now }: Pick<PruneDeps, 'plan' | 'keep' | 'state' | 'zone' | 'now'>,
  snapshots: readonly Snapshot[],
  pins: ReadonlyMap<string, Pin>,
  clockIsRight: boolean,
): Promise<Decision[]> {
  const manifests = snapshots.map(({ manifest }) => manifest);
  const seen = manifests.map((manifest) => keepSnapshot(manifest, pins.get(manifest.id)));
  const at = now();
  if (!clockIsRight)
    checkClock(
      seen.map(({ start }) => start),
      at.getTime(),
    );
  const [results, accepted] = await Promise.all([state.results(), state.accepted()]);
  const all = listSourceStatuses({ plan, manifests, results, accepted, zone, now: at });
  const rules = keepRules({ manifests, plan, keep, listSourceStatuses: all, accepted });
  return decideKept(seen, rules, { zone, now: at.getTime() });
}

interface Garbage {
  /** objects that have been unreferenced long enough */
  due: { key: string; size: number; since: number }[];
  /** objects that are unreferenced, or named only by snapshots to remove, with since when (milliseconds since 1970) */
  waiting: Map<string, { size: number; since: number }>;
}

/** Finds the objects of the repository that no remaining snapshot names. */
async function findGarbage(
  { repository, journals, now }: PruneDeps,
  snapshots: readonly Snapshot[],
  toRemove: ReadonlySet<Snapshot>,
): Promise<Garbage> {
  const { destination, project } = repository;
  const named = namedBy(snapshots.filter((snapshot) => !toRemove.has(snapshot)));
  const namedByRemoved = namedBy([...toRemove]);
  const known = await readUnreferenced(destination, project);
  // Read this before the listing, because a run that begins now announces objects before it stores them.
  const announced = await announcedObjects(journals);
  const at = now().getTime();
  const garbage: Garbage = { due: [], waiting: new Map() };
  const remaining = snapshots.filter((snapshot) => !toRemove.has(snapshot)).map(({ manifest }) => manifest);
  for await (const { key, size = 0 } of both(
    listContent(destination, project),
    listUnneededWal(repository, remaining),
  )) {
    if (named.has(key) || announced.has(key)) continue;
    const since = namedByRemoved.has(key) ? at : Math.min(known.get(key) ?? at, at);
    if (since <= at - SECOND_PASS_MS) garbage.due.push({ key, size, since });
    else garbage.waiting.set(key, { size, since });
  }
  return garbage;
}

async function* both<T>(a: AsyncIterable<T>, b: AsyncIterable<T>): AsyncGenerator<T> {
  yield* a;
  yield* b;
}

function namedBy(snapshots: readonly Snapshot[]): Set<string> {
  return new Set(snapshots.flatMap(({ manifest }) => objectsOf(manifest).map(({ key }) => key)));
}

/** Returns the keys that unfinished runs have announced, and failed runs that were not cleaned up yet. */
async function announcedObjects(journals: string): Promise<Set<string>> {
  const keys = new Set<string>();
  for (const file of await openJournals(journals)) for (const key of await journalObjects(file)) keys.add(key);
  return keys;
}

function outcome(
  { dryRun }: PruneRequest,
  snapshots: readonly Snapshot[],
  decisions: readonly Decision[],
  { due, waiting }: Garbage,
): PruneResult {
  const since = [...waiting.values()].map((one) => one.since);
  const from = since.length > 0 ? new Date(Math.min(...since) + SECOND_PASS_MS).toISOString() : undefined;
  const bytes = (all: Iterable<{ size: number }>) => [...all].reduce((sum, { size }) => sum + size, 0);
  const held = decisions.filter(({ heldBy }) => heldBy !== undefined);
  const holders = [...new Set(held.flatMap(({ heldBy = [] }) => heldBy))].sort();
  return {
    dryRun,
    snapshots: decisions.filter(({ keep }) => !keep).length,
    objects: due.length,
    bytes: bytes(due),
    ...(held.length > 0 ? { held: { snapshots: held.length, sources: holders } } : {}),
    decisions: decisions.map((decision, i) => {
      const { start, status, trigger } = (snapshots[i] as Snapshot).manifest;
      return { ...decision, start, status, trigger };
    }),
    waiting: {
      objects: waiting.size,
      bytes: bytes(waiting.values()),
      ...(from === undefined ? {} : { from }),
    },
  };
}
