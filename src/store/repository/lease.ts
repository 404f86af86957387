import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, LifeboatError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Destination, ObjectInfo } from '../../destinations/destination.ts';
import type { Listing } from '../../destinations/listing.ts';
import { until } from '../../destinations/until.ts';
import {
  deleteLeases,
  type LeaseObject,
  leaseKey,
  listLeases,
  putLease,
  readLease,
  readNewestLease,
} from './lease-row.ts';
import { endOfLease, type LeaseSightings } from './lease-seen.ts';
import { LeaseValidity } from './lease-validity.ts';

/**
 * The lease of a project at a destination decides which of several independent agents may write there. An agent takes,
 * prolongs or releases the lease by putting the lease object with the next number (see lease-row.ts). A holder that was
 * held up notices a number that it did not put. Clocks only decide when the lease of a dead agent may be taken over.
 * The newest object is never deleted, so no number is used twice.
 *
 * A lease cannot stop a request that is already on its way: a manifest may arrive long after its writer has lost the
 * lease. So the last fence before a commit claims the manifest's sequence, and every later lease object carries the
 * highest claim. No other writer gives that sequence to a manifest of its own, and a late manifest is an older link of
 * the same chain.
 */

/** How long a lease is valid after it was taken or prolonged, milliseconds. */
export const LEASE_MS = 10 * 60_000;
/** How often the holder prolongs the lease, milliseconds. */
const PROLONG_MS = 4 * 60_000;
/** How long releasing the lease may take, milliseconds. */
const RELEASE_MS = 10_000;
/** How often an agent tries to take the lease while others take it at the same time. */
const TRIES = 5;

/** Dependencies of taking a lease. */
export interface LeaseDeps {
  destination: Destination;
  project: string;
  /** id of the agent's state directory; survives restarts, and no two agents have the same */
  home: string;
  /** for people: the container and the run */
  holder: string;
  /** the agent's memory of leases whose end is too far in the future */
  sightings: LeaseSightings;
  now(): Date;
  log: Log;
}

/** Receives the objects of a listing. */
export type See = (object: ObjectInfo) => void;

/** A lease that is held. */
export interface Lease {
  /** identifies this holding, see {@link leaseTokenAt}; absent while nothing is held */
  readonly token?: string | undefined;
  /** the highest sequence claimed so far; a new manifest gets a higher one. Absent: no claim is known */
  readonly claimed?: number;
  /**
   * Prolongs the lease for {@link LEASE_MS}, which proves that no other agent has taken it meanwhile. Call it right
   * before every step that only the holder may take.
   *
   * @param sequence also claims this sequence for a manifest
   * @param seen called for each object of the project: the proof lists them all then, and not only the leases
   * @returns a signal that aborts when the lease is lost or expires
   * @throws LEASE_LOST if another agent took the lease over; what the destination throws
   */
  fence(sequence?: number, seen?: See): Promise<AbortSignal | undefined>;
  /** Releases the lease. Never rejects: a lease that cannot be released expires. */
  release(): Promise<void>;
}

/**
 * Takes the lease. The caller must hold the local lock. An earlier lease of this agent is taken over at once, another
 * agent's lease once it has expired by this host's clock. If that clock is wrong, the other agent is stopped by its
 * next fence, or this one waits too long. Two agents never commit on the same state.
 *
 * @param objects receives all objects of the project, as they were once the lease was held
 * @throws LOCKED while another agent holds the lease; what the destination throws
 */
export async function takeLease(deps: LeaseDeps, objects?: Listing): Promise<Lease> {
  const see: See | undefined = objects && ((object) => objects.add(object));
  const token = randomUUID();
  for (let tried = 1; ; tried++) {
    const newest = await readNewestLease(deps);
    const end = newest.lease && (await endForOthers(newest.lease, newest.number, deps));
    if (newest.lease && end !== undefined) throw locked(deps, { ...newest, lease: newest.lease, end });
    const number = newest.number + 1;
    const own = { token, sequence: newest.lease?.sequence ?? 0 };
    objects?.clear();
    if ((await putNext(deps, number, own)) && (await confirm(deps, { number, token, see })))
      return hold(deps, own, number);
    if (tried === TRIES) {
      throw new LifeboatError('LOCKED', 'other Lifeboat instances keep taking the lease of the repository', {
        hint: `Run only one Lifeboat instance for each project: more than one host backs up ${deps.project} to ${deps.destination.name}.`,
      });
    }
  }
}

/** Returns whether another agent holds the lease now. Changes nothing. */
export async function isLeasedToOther(deps: Omit<LeaseDeps, 'holder' | 'log'>): Promise<boolean> {
  const newest = await readNewestLease(deps);
  return newest.lease !== undefined && (await endForOthers(newest.lease, newest.number, deps)) !== undefined;
}

/** The fields that all lease objects of one holding share. Only the sequence may grow. */
type Own = Pick<LeaseObject, 'token'> & { sequence: number };

function hold(held: LeaseDeps, own: Own, first: number): Lease {
  const { token } = own;
  const end = new AbortController();
  const deps = { ...held, destination: until(held.destination, end.signal) };
  const validity = new LeaseValidity(LEASE_MS);
  const { prolong, giveBack } = takeSteps(deps, { own, first, validity });
  let last: Promise<unknown> = Promise.resolve();
  // The timer and the run take turns, so that their puts do not overlap.
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.catch(() => undefined).then(work);
    last = turn;
    return turn;
  };
  const timer = setInterval(() => {
    inTurn(() => prolong()).catch((error: unknown) =>
      deps.log.warn('the lease of the repository could not be extended', { ...errorInfo(error) }),
    );
  }, PROLONG_MS);
  timer.unref();
  return {
    token,
    claimed: own.sequence,
    fence: (sequence = 0, see) =>
      inTurn(() => {
        own.sequence = Math.max(own.sequence, sequence);
        return prolong(see);
      }),
    async release() {
      clearInterval(timer);
      const given = inTurn(giveBack).catch((error: unknown) =>
        deps.log.warn('the lease of the repository could not be released', { ...errorInfo(error) }),
      );
      // The steps after a run, such as its report, do not wait for a destination that hangs.
      await Promise.race([given, sleep(RELEASE_MS, undefined, { ref: false })]);
      validity.clear();
      // The process does not wait either: a request that hangs is aborted.
      end.abort(new LifeboatError('DEST_UNREACHABLE', `${deps.destination.name} did not answer in time`));
    },
  };
}

/** Returns the steps of a holder: each puts the next number. */
function takeSteps(
  deps: LeaseDeps,
  { own, first, validity }: { own: Own; first: number; validity: LeaseValidity },
): { prolong(see?: See): Promise<AbortSignal>; giveBack(): Promise<void> } {
  const { token } = own;
  let number = first;
  let lost: LifeboatError | undefined;
  const lose = async () => {
    lost ??= await lostTo(deps);
    validity.end(lost);
    return lost;
  };
  /** Resolves to false if another agent has put the next number. */
  const step = async (released: boolean) => {
    for (let tried = 1; !lost && tried <= TRIES; tried++) {
      const put = await putNext(deps, number + 1, own, released);
      // A number that exists already may be this agent's own: an attempt whose response was lost has stored it.
      if (!put && !(await isOwn(deps, number + 1, token))) return false;
      number += 1;
      if (put) return true;
    }
    return false;
  };
  return {
    async prolong(see) {
      if ((await step(false)) && (await confirm(deps, { number, token, see }))) return validity.extend();
      throw await lose();
    },
    // No step that needs the lease follows, so whether another agent took it meanwhile makes no difference.
    async giveBack() {
      if (lost) return;
      if (!(await step(true))) throw await lose();
      await deleteLeases(deps, [number - 1]);
    },
  };
}

/** Puts the lease with a number. Resolves to false if another writer has put that number. */
function putNext(deps: LeaseDeps, number: number, { token, sequence }: Own, released = false): Promise<boolean> {
  const at = deps.now();
  const expires = new Date(at.getTime() + LEASE_MS).toISOString();
  const { home, holder } = deps;
  const claim = sequence > 0 ? { sequence } : {};
  return putLease(deps, number, { token, home, holder, at: at.toISOString(), expires, released, ...claim });
}

async function isOwn(deps: LeaseDeps, number: number, token: string): Promise<boolean> {
  return (await readLease(deps, number))?.token === token;
}

/**
 * Confirms that the number that this agent has put is the newest and still its own, and deletes the older ones. The
 * number is not the newest if other agents had put and deleted it before and have moved on. It is not this agent's own
 * if a server replaces existing objects.
 */
async function confirm(
  deps: LeaseDeps,
  { number, token, see }: { number: number; token: string; see: See | undefined },
): Promise<boolean> {
  const numbers = await listLeases(deps, see);
  if (numbers.at(-1) !== number || !(await isOwn(deps, number, token))) return false;
  await deleteLeases(deps, numbers.slice(0, -1));
  return true;
}

/** Returns when another agent's lease ends (milliseconds since 1970), or undefined if no other agent holds it now. */
async function endForOthers(
  lease: LeaseObject,
  number: number,
  { home, destination, project, sightings, now, ...deps }: Omit<LeaseDeps, 'holder' | 'log'> & Partial<LeaseDeps>,
): Promise<number | undefined> {
  if (lease.released || lease.home === home) return undefined;
  const place = `${home} ${destination.name} ${project}`;
  const at = now().getTime();
  const log = deps.log ? { log: deps.log } : {};
  const end = await endOfLease(lease, { place, number, now: at, lengthMs: LEASE_MS, sightings, ...log });
  return at >= end ? undefined : end;
}

function locked(
  { destination, project }: LeaseDeps,
  { number, lease: { holder }, end }: { number: number; lease: LeaseObject; end: number },
): LifeboatError {
  const message = `another Lifeboat instance works on ${project} at ${destination.name}: ${holder}`;
  return new LifeboatError('LOCKED', message, {
    hint: `Wait until it has finished. If it is gone for good, its lease ${leaseKey(project, number)} expires at ${new Date(end).toISOString()}.`,
  });
}

async function lostTo(deps: LeaseDeps): Promise<LifeboatError> {
  const { lease: found } = await readNewestLease(deps);
  const by = found ? `: ${found.holder}` : '';
  return new LifeboatError('LEASE_LOST', `another Lifeboat instance took over the repository${by}`, {
    hint: 'This run was held up for longer than its lease, or a clock is wrong. Run the command again, and run only one Lifeboat instance for each project.',
  });
}
