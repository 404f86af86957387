import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, LifeboatError } from '../../base/errors.ts';
import { placeOf } from '../../destinations/destination.ts';
import type { Listing } from '../../destinations/listing.ts';
import { until } from '../../destinations/until.ts';
import { type LeaseObject, leaseKey, readNewestLease } from './lease-row.ts';
import { endOfLease } from './lease-seen.ts';
import {
  type HeldLease,
  LEASE_MS,
  type LeaseDeps,
  LeaseValidity,
  type Own,
  type See,
  TRIES,
  takeNumber,
  takeSteps,
} from './lease-steps.ts';

/**
 * The lease of a project at a destination decides which of several independent agents may write there. An agent takes,
 * prolongs or releases the lease by putting the lease object with the next number (see lease-row.ts). A holder that was
 * held up notices a number that it did not put. Clocks only decide when the lease of a dead agent may be taken over.
 * The newest object is never deleted, so no number is used twice. If the key may not delete the older ones, they would
 * pile up: the agent then replaces the newest object, and the server refuses that if somebody else has replaced it.
 *
 * A lease cannot stop a request that is already on its way: a manifest may arrive long after its writer has lost the
 * lease. So the last fence before a commit claims the manifest's sequence, and every later lease object carries the
 * highest claim. No other writer gives that sequence to a manifest of its own, and a late manifest is an older link of
 * the same chain.
 */

/** The holder prolongs the lease at this interval, milliseconds. */
const PROLONG_MS = 4 * 60_000;
/** The most time for releasing the lease, milliseconds. */
const RELEASE_MS = 10_000;
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
    const own = { token, sequence: newest.claimed };
    objects?.clear();
    const taken = await takeNumber(deps, own, newest, see);
    if (taken) return hold(deps, own, taken);
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

function hold(held: LeaseDeps, own: Own, first: HeldLease): Lease {
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

/** Returns when another agent's lease ends (milliseconds since 1970), or undefined if no other agent holds it now. */
async function endForOthers(
  lease: LeaseObject,
  number: number,
  { home, destination, project, sightings, now, ...deps }: Omit<LeaseDeps, 'holder' | 'log'> & Partial<LeaseDeps>,
): Promise<number | undefined> {
  if (lease.released || lease.home === home) return undefined;
  const place = `${home} ${placeOf(destination)} ${project}`;
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
