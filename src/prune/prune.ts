import { LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { listOnce } from '../destinations/list-once.ts';
import { type Decision, decideKept } from '../plan/keep.ts';
import type { KeepPolicy, Plan } from '../plan/model.ts';
import { checkClock } from '../plan/values/clock.ts';
import type { Pruned } from '../report/events.ts';
import type { Renewed } from '../report/prune-text.ts';
import { listSourceStatuses } from '../run/source-status.ts';
import type { State } from '../run/state.ts';
import type { RenewalRule } from '../store/content/repack.ts';
import { deleteAll } from '../store/objects/delete-all.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { measureStored, type StoredSizes } from '../store/objects/measure.ts';
import { fenceOften } from '../store/repository/fence-often.ts';
import type { Lease } from '../store/repository/lease.ts';
import { namedKeys } from '../store/repository/pack-lists.ts';
import { type Pin, readPins } from '../store/repository/pins.ts';
import type { Repository, Snapshot, SnapshotList } from '../store/repository/repository.ts';
import { tombstoneIds } from '../store/repository/tombstones.ts';
import { isRecorded, type Unreferenced, writeUnreferenced } from '../store/repository/unreferenced.ts';
import type { Remembering } from '../store/wal/remembered.ts';
import type { ClockWatch } from './clock-jump.ts';
import { keepRules, keepSnapshot } from './decide.ts';
import { foreseeRenewal } from './foresee-renewal.ts';
import { announcedObjects, findGarbage, type Garbage, SECOND_PASS_MS } from './garbage.ts';
import { KEPT, markStaying, removeSnapshots } from './remove.ts';

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
  /** what the agent remembers of the WAL that it has stored; absent: nothing */
  remembered?: Remembering;
  /** records what the place holds; absent: nobody asks. Never rejects */
  saveSize?(place: string, sizes: StoredSizes): Promise<void>;
  /** returns an error if the clock was set since the run or command began: nothing is removed then */
  clockJump: ClockWatch;
  signal: AbortSignal;
}

export interface PruneRequest {
  /** changes nothing, only returns what would be removed */
  dryRun: boolean;
  /** skips the checks of the clock: it is right, however old the newest snapshots are */
  clockIsRight?: boolean;
  /** in a dry run: also returns what the next backup would store again by this rule */
  renewal?: RenewalRule;
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
  /** what the next backup would store again; only in a dry run */
  renewal?: Renewed[];
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
 * A damaged manifest or list of packs could name any pack, so no pack is deleted while there is one. Snapshots are
 * still removed.
 *
 * @throws CHAIN_BROKEN, SIGNATURE_KEY, OBJECT_DAMAGED for a manifest that is not trusted or not readable now;
 * CLOCK_JUMPED; SETTING_INVALID for a policy that keeps nothing; what the destination throws; the signal's reason
 */
export async function prune(given: PruneDeps, request: PruneRequest): Promise<PruneResult> {
  // One listing answers all questions. Pins are looked up again before each removal.
  const { destination: real, project } = given.repository;
  const repository = given.repository.through(listOnce(real, `${project}/`));
  const { destination } = repository;
  const deps = { ...given, repository };
  // Read this before the listing, because a run that begins now announces objects before it stores them.
  const announced = await announcedObjects(deps.journals);
  const { snapshots, damaged } = await repository.snapshots(deps.signal);
  const unreadable = refuseUntrusted(damaged);
  const pins = await readPins(repository);
  const decisions = await decide(deps, snapshots, pins, request.clockIsRight === true);
  const toRemove = new Set(snapshots.filter((_, i) => !decisions[i]?.keep));
  const garbage = await findGarbage(deps, { announced, unreadable }, snapshots, toRemove);
  // All decisions are made by now, so a later change of the clock does no harm.
  const jump = request.clockIsRight ? undefined : deps.clockJump();
  if (jump) throw jump;
  if (request.dryRun) {
    const { plan, signal } = deps;
    const manifests = snapshots.filter((one) => !toRemove.has(one)).map(({ manifest }) => manifest);
    const { renewal: rule } = request;
    const renewal = rule ? { renewal: await foreseeRenewal({ repository, plan, manifests, rule, signal }) } : {};
    return { ...outcome(request, snapshots, decisions, garbage), ...renewal };
  }
  const without = new Set(garbage.due.map(({ key }) => key));
  await deps.saveSize?.(destination.name, await measureStored(destination, project, { without, signal: deps.signal }));
  if (!(await changesAnything(deps, snapshots, toRemove, garbage))) {
    deps.log.info(`nothing to prune at ${destination.name}`);
    return outcome(request, snapshots, decisions, garbage);
  }
  const prove = fenceOften(deps.fence, deps.now);
  await prove(true);
  // Oldest first, so that locked objects come last.
  const due = garbage.due.toSorted((a, b) => a.since - b.since);
  const keys = due.map(({ key }) => key);
  const refusedKeys = new Set(await deleteAll(destination, keys, { signal: deps.signal, before: prove }));
  const kept = due.filter(({ key }) => refusedKeys.has(key));
  garbage.due = due.filter(({ key }) => !refusedKeys.has(key));
  await prove(true);
  const staying = await removeSnapshots({ ...deps, prove }, snapshots, toRemove);
  const stay = await namedKeys(repository, [...staying.keys()], deps.signal);
  for (const key of [...garbage.waiting.keys()]) if (stay.keys.has(key)) garbage.waiting.delete(key);
  const left = sinceOf(garbage.waiting);
  for (const { key, since } of kept) left.set(key, since);
  await writeUnreferenced(destination, project, left, deps.now());
  deps.log.info(`pruned ${destination.name}`, {
    snapshots: toRemove.size - staying.size,
    objects: garbage.due.length,
    ...(kept.length > 0 ? { refused: kept.length } : {}),
  });
  const result = outcome(request, snapshots, markStaying(decisions, staying), garbage);
  const refused = { snapshots: [...staying.values()].filter((why) => why === KEPT).length, objects: kept.length };
  return refused.snapshots + refused.objects > 0 ? { ...result, refused } : result;
}

function sinceOf(waiting: Garbage['waiting']): Unreferenced {
  return new Map([...waiting].map(([key, { since }]) => [key, since]));
}

/** Returns false if the prune has nothing to delete or to record. It then needs no proof that it holds the lease. */
async function changesAnything(
  { repository }: PruneDeps,
  snapshots: readonly Snapshot[],
  toRemove: ReadonlySet<Snapshot>,
  { due, waiting }: Garbage,
): Promise<boolean> {
  if (due.length > 0 || toRemove.size > 0) return true;
  const ids = new Set(await tombstoneIds(repository));
  if (snapshots.some(({ manifest }) => ids.has(manifest.id))) return true;
  return !(await isRecorded(repository.destination, repository.project, sinceOf(waiting)));
}

/**
 * Returns the ids of the damaged manifests. They can name any pack, and objects of their own, so these stay.
 *
 * @throws the error of a manifest that is not trusted, or not readable now: the list of snapshots may then be wrong
 */
function refuseUntrusted(damaged: SnapshotList['damaged']): string[] {
  const first = damaged.find(({ error }) => error.code !== 'OBJECT_DAMAGED');
  if (!first) return damaged.map(({ id }) => id);
  const { code, message, hint } = first.error;
  if (code === 'CHAIN_BROKEN' || code === 'SIGNATURE_KEY') {
    throw new LifeboatError(code, `${message}, so nothing may be deleted`, hint === undefined ? {} : { hint });
  }
  throw new LifeboatError('OBJECT_DAMAGED', `the manifest of ${first.id} cannot be used, so nothing may be deleted`, {
    cause: first.error,
    hint: `It could name any object. Restore it from another copy of the backups, or give it up with \`lifeboat forget ${first.id} --unreadable\`. \`lifeboat check\` reports the details.`,
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

function outcome(
  { dryRun }: PruneRequest,
  snapshots: readonly Snapshot[],
  decisions: readonly Decision[],
  { due, waiting, unreadable, unread, doubted }: Garbage,
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
    ...(unreadable.length > 0 ? { unreadable: { snapshots: [...unreadable], objects: doubted } } : {}),
    ...(unread.length > 0 ? { unread: unread.map(({ list }) => list.key) } : {}),
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
