import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, LifeboatError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Destination } from '../../destinations/destination.ts';
import { until } from '../../destinations/until.ts';
import { isRefusal } from '../objects/objects.ts';
import { type LeaseObject, leaseKey, listLeases, putLease, readLease, readNewestLease } from './lease-row.ts';
import { endOfLease, type LeaseSightings } from './lease-seen.ts';

/**
 * The lease of a project at a destination: who may write there, among agents that know nothing of each other. An agent that takes the
 * lease, prolongs it or gives it back puts the next number of the row (see lease-row.ts); a holder that was held up finds a number
 * that it did not put. The clock decides only when the lease of an agent that is gone may be taken over. The newest object always
 * stays, so that no number comes twice.
 *
 * A lease cannot stop a request that is on its way: a manifest may arrive long after its writer lost the lease. So the last fence
 * before a commit claims the manifest's sequence, and every later object of the row passes the highest claim on. No other writer
 * gives that sequence to a manifest of its own. A manifest that comes late is then an older link of one chain.
 */

/** How long a lease is valid after it was taken or prolonged, and how often its holder prolongs it, milliseconds. */
export const LEASE_MS = 10 * 60_000;
const PROLONG_MS = 4 * 60_000;

/** How long giving it back may take. */
const RELEASE_MS = 10_000;

/** Several agents that begin at once are told apart by then. */
const TRIES = 5;

/** What taking a lease needs. */
export interface LeaseDeps {
  destination: Destination;
  project: string;
  /** stays the same when the agent is started anew with its memory; two agents never have the same */
  home: string;
  /** for people: which container, and which run */
  holder: string;
  /** the agent's memory of leases that are dated too far ahead */
  sightings: LeaseSightings;
  now(): Date;
  log: Log;
}

/** A lease that is held. */
export interface Lease {
  /** names this holding, see {@link leaseTokenAt}; absent while nothing is held */
  readonly token?: string | undefined;
  /** the highest sequence that a manifest was claimed for here; a new one gets a higher. Absent: none is known */
  readonly claimed?: number;
  /**
   * Prolongs the lease, which is the proof that nobody else had it meanwhile. To be called right before what only the holder may
   * do: from then on it is valid for {@link LEASE_MS}. `sequence`: also claims that number for a manifest.
   *
   * @returns a signal that aborts when the lease is lost, or its time runs out before it is prolonged again
   * @throws LEASE_LOST when another agent took it over; what the destination throws
   */
  fence(sequence?: number): Promise<AbortSignal | undefined>;
  /** Never rejects: a lease that could not be given back ends by itself. */
  release(): Promise<void>;
}

/**
 * Takes the lease, to be called with the local lock held. One of this agent's former self is taken over at once, one of another
 * agent when it has expired by this host's clock. If that is wrong, the other one is stopped by its next fence, or waited for
 * too long; no two of them ever commit on the same state.
 *
 * @throws LOCKED while another agent has it; what the destination throws
 */
export async function takeLease(deps: LeaseDeps): Promise<Lease> {
  const token = randomUUID();
  for (let tried = 1; ; tried++) {
    const newest = await readNewestLease(deps);
    const end = newest.lease && (await endForOthers(newest.lease, newest.number, deps));
    if (newest.lease && end !== undefined) throw locked(deps, { ...newest, lease: newest.lease, end });
    const number = newest.number + 1;
    const own = { token, sequence: newest.lease?.sequence ?? 0 };
    if ((await putNext(deps, number, own)) && (await settle(deps, number, token))) return hold(deps, own, number);
    if (tried === TRIES) {
      throw new LifeboatError('LOCKED', 'other agents take the lease of the repository again and again', {
        hint: `Run one Lifeboat for each project: ${deps.destination.name} has ${deps.project} of more than one host.`,
      });
    }
  }
}

/** Whether another agent has the lease now; nothing is changed. */
export async function isLeasedToOther(deps: Omit<LeaseDeps, 'holder' | 'log'>): Promise<boolean> {
  const newest = await readNewestLease(deps);
  return newest.lease !== undefined && (await endForOthers(newest.lease, newest.number, deps)) !== undefined;
}

/**
 * The token of the newest lease of a project, held or given back. Where it is that of a lease held elsewhere, the two places are
 * one: each holding has a token of its own.
 */
export async function leaseTokenAt(destination: Destination, project: string): Promise<string | undefined> {
  for (let tried = 1; tried <= TRIES; tried++) {
    const newest = await readNewestLease({ destination, project });
    if (newest.lease) return newest.lease.token;
    // None at all, or one that its holder replaced by the next while it was looked for.
    if (newest.number === 0) return undefined;
  }
  return undefined;
}

/** What is the same in all objects of one holding, but for a sequence that grows. */
type Own = Pick<LeaseObject, 'token'> & { sequence: number };

function hold(held: LeaseDeps, own: Own, first: number): Lease {
  const { token } = own;
  const end = new AbortController();
  const deps = { ...held, destination: until(held.destination, end.signal) };
  let number = first;
  let lost: LifeboatError | undefined;
  let last: Promise<unknown> = Promise.resolve();
  const validity = new Validity();
  // One after the other: the timer's and the run's own.
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.catch(() => undefined).then(work);
    last = turn;
    return turn;
  };
  const next = async (released: boolean) => {
    for (let tried = 1; !lost && tried <= TRIES; tried++) {
      const put = await putNext(deps, number + 1, own, released);
      // Ours, although it was not put now: stored by an attempt whose answer was lost.
      if (!put && !(await isOurs(deps, number + 1, token))) break;
      number += 1;
      if (put && (await settle(deps, number, token))) return validity.extend();
      if (put) break;
    }
    lost ??= await lostTo(deps);
    validity.end(lost);
    throw lost;
  };
  const timer = setInterval(() => {
    inTurn(() => next(false)).catch((error: unknown) =>
      deps.log.warn('the lease of the repository could not be prolonged', { ...errorInfo(error) }),
    );
  }, PROLONG_MS);
  timer.unref();
  return {
    token,
    claimed: own.sequence,
    fence: (sequence = 0) =>
      inTurn(() => {
        own.sequence = Math.max(own.sequence, sequence);
        return next(false);
      }),
    async release() {
      clearInterval(timer);
      const given = inTurn(async () => (lost ? undefined : next(true))).catch((error: unknown) =>
        deps.log.warn('the lease of the repository could not be given back', { ...errorInfo(error) }),
      );
      // What comes after a run, such as its report, does not wait for a destination that hangs.
      await Promise.race([given, sleep(RELEASE_MS, undefined, { ref: false })]);
      validity.clear();
      // Nor does the process: what hangs is given up.
      end.abort(new LifeboatError('DEST_UNREACHABLE', `${deps.destination.name} did not answer in time`));
    },
  };
}

/** Ends what a holder has under way when its lease is lost, or has not been prolonged in time. */
class Validity {
  private controller = new AbortController();
  private timer: NodeJS.Timeout | undefined;

  /** The lease was proven just now. One that had run out, and that nobody took over, is valid again. */
  extend(): AbortSignal {
    this.clear();
    if (this.controller.signal.aborted) this.controller = new AbortController();
    this.timer = setTimeout(() => this.end(ranOut()), LEASE_MS);
    this.timer.unref();
    return this.controller.signal;
  }

  end(why: LifeboatError): void {
    this.clear();
    this.controller.abort(why);
  }

  clear(): void {
    clearTimeout(this.timer);
  }
}

function ranOut(): LifeboatError {
  return new LifeboatError('LEASE_LOST', 'the lease of the repository ran out, and could not be prolonged', {
    hint: 'Look at the disk, server or network of the destination, and run it again.',
  });
}

/** Resolves to false when somebody else has put that number. */
function putNext(deps: LeaseDeps, number: number, { token, sequence }: Own, released = false): Promise<boolean> {
  const at = deps.now();
  const expires = new Date(at.getTime() + LEASE_MS).toISOString();
  const { home, holder } = deps;
  const claim = sequence > 0 ? { sequence } : {};
  return putLease(deps, number, { token, home, holder, at: at.toISOString(), expires, released, ...claim });
}

async function isOurs(deps: LeaseDeps, number: number, token: string): Promise<boolean> {
  return (await readLease(deps, number))?.token === token;
}

/**
 * Whether that number, which we have put, is the newest and still ours; if so, the older ones are deleted. It is not the newest
 * where the number had been deleted before we put it, because others have gone on; not ours where a server replaces objects.
 */
async function settle(deps: LeaseDeps, number: number, token: string): Promise<boolean> {
  const numbers = await listLeases(deps);
  if (numbers.at(-1) !== number || !(await isOurs(deps, number, token))) return false;
  for (const old of numbers.slice(0, -1)) {
    try {
      await deps.destination.delete(leaseKey(deps.project, old));
    } catch (error) {
      deps.log.debug('an old lease could not be deleted', { ...errorInfo(error) });
      // With a key that may not delete they stay, and do no harm: nobody asks for each of them again and again.
      if (isRefusal(error)) break;
    }
  }
  return true;
}

/** Returns when the lease of another agent ends (milliseconds since 1970), or undefined if no other agent has it now. */
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
  const ends = new Date(end).toISOString();
  return new LifeboatError('LOCKED', `another agent works on ${project} at ${destination.name}: ${holder}`, {
    hint: `Wait until it has ended. If it is gone for good, its lease ends at ${ends} by itself; ${leaseKey(project, number)} holds it.`,
  });
}

async function lostTo(deps: LeaseDeps): Promise<LifeboatError> {
  const { lease: found } = await readNewestLease(deps);
  const whom = found ? found.holder : 'somebody';
  return new LifeboatError('LEASE_LOST', `the repository was taken over by another agent: ${whom}`, {
    hint: 'This one was held up for longer than its lease, or a clock is wrong. Run it again, and run one Lifeboat for each project.',
  });
}
