import { LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Decision, decideKept } from '../plan/keep.ts';
import type { KeepPolicy, Plan } from '../plan/model.ts';
import { checkClock } from '../plan/values/clock.ts';
import type { Pruned } from '../report/events.ts';
import { journalObjects, openJournals } from '../run/journal.ts';
import type { Lock } from '../run/process-lock.ts';
import { listSourceStatuses } from '../run/source-status.ts';
import type { State } from '../run/state.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { objectsOf } from '../store/objects/manifest.ts';
import { fenceOften } from '../store/repository/fence-often.ts';
import type { Lease } from '../store/repository/lease.ts';
import { takeLeaseOnceThereIsRoom } from '../store/repository/lease-for-room.ts';
import { type Pin, readPins } from '../store/repository/pins.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import {
  deleteDue,
  listContent,
  readUnreferenced,
  type Unreferenced,
  writeUnreferenced,
} from '../store/repository/unreferenced.ts';
import { keepRules, keepSnapshot } from './decide.ts';
import { KEPT, markStaying, removeSnapshots } from './remove.ts';

/** How long an object has to be named by nobody before it is deleted, milliseconds. */
const SECOND_PASS_MS = 24 * 60 * 60 * 1000;

export interface PruneDeps {
  repository: Repository;
  plan: Plan;
  /** LIFEBOAT_KEEP */
  keep: KeepPolicy;
  state: Pick<State, 'accepted' | 'results'>;
  /** directory of the journals: what a run announced is never deleted while its journal is there */
  journals: string;
  zone: string;
  now(): Date;
  log: Log;
  /** proof that nobody else writes to the repository: no older than half a minute at each deletion; not asked for a dry run */
  fence: Lease['fence'];
  signal: AbortSignal;
}

export interface PruneRequest {
  /** only look */
  dryRun: boolean;
  /** the clock is right, however long ago the newest snapshots are */
  clockIsRight?: boolean;
}

/** What became of one snapshot, for people. */
interface PrunedSnapshot extends Decision {
  /** ISO time of the run's start */
  start: string;
  status: Manifest['status'];
  trigger: Manifest['trigger'];
}

/** The outcome of a prune. With `dryRun`: what it would come to. Sizes in bytes, as stored. */
export interface PruneResult extends Pruned {
  dryRun: boolean;
  /** every snapshot, newest first */
  decisions: PrunedSnapshot[];
  /** objects that no snapshot names any more, and from when on they may be deleted (ISO time of the first) */
  waiting: { objects: number; bytes: number; from?: string };
}

/**
 * Removes the snapshots that no source wants kept, and the objects that nobody has named for a day. To be called with the lock
 * held, but for a dry run. Killed or aborted at any point it leaves nothing wrong, and the next one goes on.
 *
 * First go objects that were found unreferenced long enough ago, since a full disk has no room for anything else; then
 * snapshots, each with its tombstone written before its manifest is deleted; then what they alone named is noted.
 *
 * @throws OBJECT_DAMAGED when a manifest cannot be read: it could name anything; CLOCK_JUMPED; SETTING_INVALID for a policy that
 * keeps nothing; what the destination throws; the signal's reason
 */
export async function prune(deps: PruneDeps, request: PruneRequest): Promise<PruneResult> {
  const { destination, project } = deps.repository;
  const { snapshots, damaged } = await deps.repository.snapshots(deps.signal);
  refuseDamaged(damaged);
  const pins = await readPins(deps.repository);
  const decisions = await decide(deps, snapshots, pins, request.clockIsRight === true);
  const going = new Set(snapshots.filter((_, i) => !decisions[i]?.keep));
  const garbage = await findGarbage(deps, snapshots, going);
  if (!request.dryRun) {
    const prove = fenceOften(deps.fence, deps.now);
    await prove(true);
    // The oldest first: those that a lock keeps come last.
    const due = garbage.due.toSorted((a, b) => a.since - b.since);
    const kept = await deleteDue(destination, due, { signal: deps.signal, prove });
    garbage.due = due.filter((one) => !kept.includes(one));
    await prove(true);
    const staying = await removeSnapshots({ ...deps, prove }, snapshots, going);
    for (const key of namedBy([...staying.keys()])) garbage.waiting.delete(key);
    const left: Unreferenced = new Map([...garbage.waiting].map(([key, { since }]) => [key, since]));
    for (const { key, since } of kept) left.set(key, since);
    await writeUnreferenced(destination, project, left, deps.now());
    deps.log.info('pruned', { snapshots: going.size - staying.size, objects: garbage.due.length, kept: kept.length });
    const result = outcome(request, snapshots, markStaying(decisions, staying), garbage);
    const refused = { snapshots: [...staying.values()].filter((why) => why === KEPT).length, objects: kept.length };
    return refused.snapshots + refused.objects > 0 ? { ...result, refused } : result;
  }
  return outcome(request, snapshots, decisions, garbage);
}

/** What a prune by itself needs besides. */
export interface PruneAloneDeps extends Omit<PruneDeps, 'plan' | 'repository' | 'fence' | 'signal'> {
  /** keeps every run of this project away until released; LOCKED when one is under way */
  lock(): Promise<Lock>;
  /** undoes what dead runs left */
  recover(): Promise<void>;
  plan(): Promise<Plan>;
  repository(): Promise<Repository>;
  /** keeps other agents away from the project at the destination; LOCKED while one works there */
  lease(repository: Repository): Promise<Lease>;
}

/** Prunes when no run is under way; a dry run only looks, and minds nobody. Throws like {@link prune}, and LOCKED. */
export async function pruneAlone(
  deps: PruneAloneDeps,
  request: PruneRequest,
  signal: AbortSignal,
): Promise<PruneResult> {
  const lock = request.dryRun ? undefined : await deps.lock();
  let lease: Lease | undefined;
  try {
    if (lock) await deps.recover();
    const repository = await deps.repository();
    lease = lock && (await takeLeaseOnceThereIsRoom(() => deps.lease(repository)));
    const fence = lease?.fence ?? (async () => undefined);
    return await prune({ ...deps, plan: await deps.plan(), repository, fence, signal }, request);
  } finally {
    await lease?.release();
    await lock?.release();
  }
}

function refuseDamaged(damaged: readonly { id: string; error: LifeboatError }[]): void {
  const [first] = damaged;
  if (!first) return;
  // It could name any object.
  if (first.error.code === 'CHAIN_BROKEN') {
    const { message, hint } = first.error;
    throw new LifeboatError(
      'CHAIN_BROKEN',
      `${message}, so nothing may be deleted`,
      hint === undefined ? {} : { hint },
    );
  }
  throw new LifeboatError('OBJECT_DAMAGED', `the manifest of ${first.id} cannot be used, so nothing may be deleted`, {
    cause: first.error,
    hint: 'It could name any object. Copy it back from another copy of the backups; `lifeboat check` tells more.',
  });
}

/** What the retention makes of snapshots (newest first), in their order. Throws as {@link prune} does. */
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
  /** named by nobody for long enough */
  due: { key: string; size: number; since: number }[];
  /** named by nobody, or by snapshots that go: since when (milliseconds since 1970) */
  waiting: Map<string, { size: number; since: number }>;
}

/** Sorts the objects of the repository that no snapshot that stays names. */
async function findGarbage(
  { repository: { destination, project }, journals, now }: PruneDeps,
  snapshots: readonly Snapshot[],
  going: ReadonlySet<Snapshot>,
): Promise<Garbage> {
  const named = namedBy(snapshots.filter((snapshot) => !going.has(snapshot)));
  const goingToo = namedBy([...going]);
  const known = await readUnreferenced(destination, project);
  // Before the listing: a run that begins now announces what it stores before it does.
  const announced = await announcedObjects(journals);
  const at = now().getTime();
  const garbage: Garbage = { due: [], waiting: new Map() };
  for await (const { key, size = 0 } of listContent(destination, project)) {
    if (named.has(key) || announced.has(key)) continue;
    const since = goingToo.has(key) ? at : Math.min(known.get(key) ?? at, at);
    if (since <= at - SECOND_PASS_MS) garbage.due.push({ key, size, since });
    else garbage.waiting.set(key, { size, since });
  }
  return garbage;
}

function namedBy(snapshots: readonly Snapshot[]): Set<string> {
  return new Set(snapshots.flatMap(({ manifest }) => objectsOf(manifest).map(({ key }) => key)));
}

/** What runs have announced that have not ended, or could not be cleared up after yet. */
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
