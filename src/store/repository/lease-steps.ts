import { LifeboatError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Destination, ObjectInfo } from '../../destinations/destination.ts';
import {
  deleteLeases,
  type LeaseObject,
  type ListedLease,
  listLeases,
  type NewestLease,
  putLease,
  readLease,
  readNewestLease,
  replaceLease,
  replacesSafely,
} from './lease-row.ts';
import type { LeaseSightings } from './lease-seen.ts';

/** The steps of taking and holding a lease, see lease.ts. */

/** A lease is valid for this time after it was taken or prolonged, milliseconds. */
export const LEASE_MS = 10 * 60_000;
/** The number of attempts to take the lease while others take it at the same time. */
export const TRIES = 5;

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

/** The fields that all lease objects of one holding share. Only the sequence may grow. */
export type Own = Pick<LeaseObject, 'token'> & { sequence: number };

/** The lease object of a holder. `replaces`: it is replaced by the next one, because the key may not delete it. */
export interface HeldLease extends ListedLease {
  replaces: boolean;
}

/**
 * Takes the lease after the newest one, or in its place. Resolves to undefined if another agent was faster.
 *
 * The newest one may have been replaced between the reading and the put of the next one, with a higher claim. The
 * listing that confirms the put shows that.
 */
export async function takeNumber(
  deps: LeaseDeps,
  own: Own,
  newest: NewestLease,
  see?: See,
): Promise<HeldLease | undefined> {
  const replaces = !(await canDelete(deps, newest)) && (await replacesSafely(deps, newest));
  const number = replaces ? newest.number : newest.number + 1;
  const isPut = replaces
    ? await replaceLease(deps, newest, leaseOf(deps, own))
    : await putLease(deps, number, leaseOf(deps, own));
  if (!isPut) return undefined;
  return confirm(deps, { number, token: own.token, see, ...(replaces ? {} : { before: newest }) });
}

/**
 * Finds out whether the key may delete old leases, if there is one. A higher claim in it stays until a later lease has
 * it.
 */
async function canDelete(deps: LeaseDeps, { before, lease, claimed }: NewestLease): Promise<boolean> {
  if (before === undefined || claimed > (lease?.sequence ?? 0)) return true;
  return deleteLeases(deps, [before]);
}

/** Returns the steps of a holder: each puts the next number, or replaces the lease. */
export function takeSteps(
  deps: LeaseDeps,
  { own, first, validity }: { own: Own; first: HeldLease; validity: LeaseValidity },
): { prolong(see?: See): Promise<AbortSignal>; giveBack(): Promise<void> } {
  const { token } = own;
  let held = first;
  let lost: LifeboatError | undefined;
  const lose = async () => {
    lost ??= await lostTo(deps);
    validity.end(lost);
    return lost;
  };
  /** Resolves to false if another agent has put the next number, or replaced the lease. */
  const step = async (released: boolean) => {
    for (let tried = 1; !lost && tried <= TRIES; tried++) {
      if (held.replaces) {
        if (await replaceLease(deps, held, leaseOf(deps, own, released))) return true;
        const present = await findOwn(deps, held.number, token);
        if (!present) return false;
        held = { ...present, replaces: true };
        continue;
      }
      const number = held.number + 1;
      const put = await putLease(deps, number, leaseOf(deps, own, released));
      // A number that exists already may be this agent's own: an attempt whose response was lost has stored it.
      if (!put && !(await isOwn(deps, number, token))) return false;
      held = { number, replaces: false };
      if (put) return true;
    }
    return false;
  };
  return {
    async prolong(see) {
      const before = held;
      const isPut = await step(false);
      const { number, replaces } = held;
      const confirmed = isPut && (await confirm(deps, { number, token, see, ...(replaces ? {} : { before }) }));
      if (!confirmed) throw await lose();
      held = confirmed;
      return validity.extend();
    },
    // No step that needs the lease follows, so whether another agent took it meanwhile makes no difference.
    async giveBack() {
      if (lost) return;
      if (!(await step(true))) throw await lose();
      if (!held.replaces) await deleteLeases(deps, [held.number - 1]);
    },
  };
}

function leaseOf(deps: LeaseDeps, { token, sequence }: Own, released = false): Omit<LeaseObject, 'format'> {
  const at = deps.now();
  const expires = new Date(at.getTime() + LEASE_MS).toISOString();
  const { home, holder } = deps;
  const claim = sequence > 0 ? { sequence } : {};
  return { token, home, holder, at: at.toISOString(), expires, released, ...claim };
}

async function isOwn(deps: LeaseDeps, number: number, token: string): Promise<boolean> {
  return (await readLease(deps, number))?.token === token;
}

/**
 * Returns the lease with a number as it is listed now, if it is the newest and this agent's own. It has another version
 * than before if an earlier attempt failed only after it had replaced the lease, or if the server gives each write of
 * the same bytes another version, as some do with encryption.
 */
async function findOwn(deps: LeaseDeps, number: number, token: string): Promise<ListedLease | undefined> {
  const newest = (await listLeases(deps)).at(-1);
  return newest?.number === number && (await isOwn(deps, number, token)) ? newest : undefined;
}

/**
 * Confirms that the number that this agent has put is the newest and still its own, and deletes the older ones. The
 * number is not the newest if other agents had put and deleted it before and have moved on. It is not this agent's own
 * if a server replaces existing objects.
 *
 * @param before the lease that this one follows: it must not have been replaced since
 */
async function confirm(
  deps: LeaseDeps,
  { number, token, see, before }: { number: number; token: string; see: See | undefined; before?: ListedLease },
): Promise<HeldLease | undefined> {
  const leases = await listLeases(deps, see);
  const newest = leases.at(-1);
  if (newest?.number !== number || !(await isOwn(deps, number, token))) return undefined;
  const former = before && leases.find((one) => one.number === before.number);
  const isReplaced =
    former?.version !== undefined && before?.version !== undefined && former.version !== before.version;
  if (isReplaced) return undefined;
  const old = leases.slice(0, -1).map((one) => one.number);
  const isKept = !(await deleteLeases(deps, old));
  return { ...newest, replaces: isKept && (await replacesSafely(deps, newest)) };
}

async function lostTo(deps: LeaseDeps): Promise<LifeboatError> {
  const { lease: found } = await readNewestLease(deps);
  const by = found ? `: ${found.holder}` : '';
  return new LifeboatError('LEASE_LOST', `another Lifeboat instance took over the repository${by}`, {
    hint: 'This run was held up for longer than its lease, or a clock is wrong. Run the command again, and run only one Lifeboat instance for each project.',
  });
}

/** Aborts the holder's requests when its lease is lost or was not extended in time. */
export class LeaseValidity {
  private readonly lengthMs: number;
  private controller = new AbortController();
  private timer: NodeJS.Timeout | undefined;

  /** @param lengthMs how long a lease lasts, milliseconds */
  constructor(lengthMs: number) {
    this.lengthMs = lengthMs;
  }

  /** Restarts the lease's time after a successful fence. An expired lease that nobody took over becomes valid again. */
  extend(): AbortSignal {
    this.clear();
    if (this.controller.signal.aborted) this.controller = new AbortController();
    this.timer = setTimeout(() => this.end(ranOut()), this.lengthMs);
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
  return new LifeboatError('LEASE_LOST', 'the lease of the repository expired and could not be extended', {
    hint: 'Check the disk, server or network of the destination, then run the command again.',
  });
}
