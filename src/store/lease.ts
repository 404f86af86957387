import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Destination } from '../destinations/destination.ts';
import { until } from '../destinations/until.ts';
import { errorInfo, LifeboatError } from '../errors.ts';
import type { Log } from '../log.ts';
import { canonicalJson, FORMAT } from './manifest.ts';
import { isRefusal, readIfThere, streamOf } from './objects.ts';

/**
 * The lease of a project at a destination: who may write there, among agents that know nothing of each other. It is a row of
 * objects `<project>/leases/<number>.json` of which only the newest counts. Whoever takes the lease, prolongs it or gives it
 * back puts the next number, and `put` gives a number to one of two only: so the numbers say what came after what, and a holder
 * that was held up finds a number that it did not put. The clock decides only when the lease of an agent that is gone may be
 * taken over. The newest object always stays, so that no number comes twice.
 */

/** How long a lease is valid after it was taken or prolonged, and how often its holder prolongs it, milliseconds. */
export const LEASE_MS = 10 * 60_000;
const PROLONG_MS = 4 * 60_000;

/** How long giving it back may take. */
const RELEASE_MS = 10_000;

/** Several agents that begin at once are told apart by then. */
const TRIES = 5;

const lease = z.object({
  format: z.literal(FORMAT),
  /** of this holding: a new one each time the lease is taken */
  token: z.string(),
  /** of the agent's memory: whoever has it, and the local lock, knows that its former self is dead */
  home: z.string(),
  /** for people: the container, and what it is doing */
  holder: z.string(),
  at: z.iso.datetime(),
  expires: z.iso.datetime(),
  /** given back */
  released: z.boolean(),
});

type LeaseObject = z.infer<typeof lease>;

/** What taking a lease needs. */
export interface LeaseDeps {
  destination: Destination;
  project: string;
  /** stays the same when the agent is started anew with its memory; two agents never have the same */
  home: string;
  /** for people: which container, and which run */
  holder: string;
  now(): Date;
  log: Log;
}

/** A lease that is held. */
export interface Lease {
  /** names this holding, see {@link leaseTokenAt}; absent while nothing is held */
  readonly token?: string | undefined;
  /**
   * Prolongs the lease, which is the proof that nobody else had it meanwhile. To be called right before what only the holder may
   * do: from then on it is valid for {@link LEASE_MS}.
   *
   * @throws LEASE_LOST when another agent took it over; what the destination throws
   */
  fence(): Promise<void>;
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
    const newest = await readNewest(deps);
    if (newest.lease && isOthers(newest.lease, deps)) throw locked(deps, newest.number, newest.lease);
    const number = newest.number + 1;
    if ((await putNext(deps, number, token)) && (await settle(deps, number, token))) return hold(deps, token, number);
    if (tried === TRIES) {
      throw new LifeboatError('LOCKED', 'other agents take the lease of the repository again and again', {
        hint: `Run one Lifeboat for each project: ${deps.destination.name} has ${deps.project} of more than one host.`,
      });
    }
  }
}

/** Whether another agent has the lease now; nothing is changed. */
export async function isLeasedToOther(deps: Omit<LeaseDeps, 'holder' | 'log'>): Promise<boolean> {
  const newest = await readNewest(deps);
  return newest.lease !== undefined && isOthers(newest.lease, deps);
}

/**
 * The token of the newest lease of a project, held or given back. Where it is that of a lease held elsewhere, the two places are
 * one: each holding has a token of its own.
 */
export async function leaseTokenAt(destination: Destination, project: string): Promise<string | undefined> {
  for (let tried = 1; tried <= TRIES; tried++) {
    const newest = await readNewest({ destination, project });
    if (newest.lease) return newest.lease.token;
    // None at all, or one that its holder replaced by the next while it was looked for.
    if (newest.number === 0) return undefined;
  }
  return undefined;
}

function hold(held: LeaseDeps, token: string, first: number): Lease {
  const end = new AbortController();
  const deps = { ...held, destination: until(held.destination, end.signal) };
  let number = first;
  let lost: LifeboatError | undefined;
  let last: Promise<void> = Promise.resolve();
  // One after the other: the timer's and the run's own.
  const inTurn = (work: () => Promise<void>) => {
    last = last.catch(() => undefined).then(work);
    return last;
  };
  const next = async (released: boolean) => {
    for (let tried = 1; !lost && tried <= TRIES; tried++) {
      const put = await putNext(deps, number + 1, token, released);
      // Ours, although it was not put now: stored by an attempt whose answer was lost.
      if (!put && !(await isOurs(deps, number + 1, token))) break;
      number += 1;
      if (put && (await settle(deps, number, token))) return;
      if (put) break;
    }
    lost ??= await lostTo(deps);
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
    fence: () => inTurn(() => next(false)),
    async release() {
      clearInterval(timer);
      const given = inTurn(async () => (lost ? undefined : next(true))).catch((error: unknown) =>
        deps.log.warn('the lease of the repository could not be given back', { ...errorInfo(error) }),
      );
      // What comes after a run, such as its report, does not wait for a destination that hangs.
      await Promise.race([given, sleep(RELEASE_MS, undefined, { ref: false })]);
      // Nor does the process: what hangs is given up.
      end.abort(new LifeboatError('DEST_UNREACHABLE', `${deps.destination.name} did not answer in time`));
    },
  };
}

/** Resolves to false when somebody else has put that number. */
async function putNext(deps: LeaseDeps, number: number, token: string, released = false): Promise<boolean> {
  const at = deps.now();
  const expires = new Date(at.getTime() + LEASE_MS).toISOString();
  const value: LeaseObject = {
    ...{ format: FORMAT, token, home: deps.home, holder: deps.holder },
    ...{ at: at.toISOString(), expires, released },
  };
  try {
    await deps.destination.put(keyOf(deps.project, number), streamOf(`${canonicalJson(value)}\n`));
    return true;
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'DEST_EXISTS') return false;
    throw error;
  }
}

async function isOurs(deps: LeaseDeps, number: number, token: string): Promise<boolean> {
  return (await readLease(deps, number))?.token === token;
}

/**
 * Whether that number, which we have put, is the newest and still ours; if so, the older ones are deleted. It is not the newest
 * where the number had been deleted before we put it, because others have gone on; not ours where a server replaces objects.
 */
async function settle(deps: LeaseDeps, number: number, token: string): Promise<boolean> {
  const numbers = await listNumbers(deps);
  if (numbers.at(-1) !== number || !(await isOurs(deps, number, token))) return false;
  for (const old of numbers.slice(0, -1)) {
    try {
      await deps.destination.delete(keyOf(deps.project, old));
    } catch (error) {
      deps.log.debug('an old lease could not be deleted', { ...errorInfo(error) });
      // With a key that may not delete they stay, and do no harm: nobody asks for each of them again and again.
      if (isRefusal(error)) break;
    }
  }
  return true;
}

async function readNewest(deps: Pick<LeaseDeps, 'destination' | 'project'>) {
  const number = (await listNumbers(deps)).at(-1) ?? 0;
  const found = number === 0 ? undefined : await readLease(deps, number);
  return { number, ...(found ? { lease: found } : {}) };
}

/** One that cannot be read binds nobody: whoever put it is stopped by the next number. */
async function readLease(
  { destination, project }: Pick<LeaseDeps, 'destination' | 'project'>,
  number: number,
): Promise<LeaseObject | undefined> {
  const bytes = await readIfThere(destination, keyOf(project, number));
  try {
    return bytes && lease.parse(JSON.parse(bytes.toString('utf8')));
  } catch {
    return undefined;
  }
}

async function listNumbers({ destination, project }: Pick<LeaseDeps, 'destination' | 'project'>): Promise<number[]> {
  const prefix = `${project}/leases/`;
  const numbers: number[] = [];
  for await (const { key } of destination.list(prefix)) {
    const match = /^(\d{10})\.json$/.exec(key.slice(prefix.length));
    if (match) numbers.push(Number(match[1]));
  }
  return numbers;
}

function isOthers({ home, expires, released }: LeaseObject, deps: Pick<LeaseDeps, 'home' | 'now'>): boolean {
  return !released && home !== deps.home && deps.now().getTime() < Date.parse(expires);
}

function locked({ destination, project }: LeaseDeps, number: number, { holder, expires }: LeaseObject): LifeboatError {
  return new LifeboatError('LOCKED', `another agent works on ${project} at ${destination.name}: ${holder}`, {
    hint: `Wait until it has ended. If it is gone for good, its lease ends at ${expires} by itself; ${keyOf(project, number)} holds it.`,
  });
}

async function lostTo(deps: LeaseDeps): Promise<LifeboatError> {
  const { lease: found } = await readNewest(deps);
  const whom = found ? found.holder : 'somebody';
  return new LifeboatError('LEASE_LOST', `the repository was taken over by another agent: ${whom}`, {
    hint: 'This one was held up for longer than its lease, or a clock is wrong. Nothing was committed; run it again, and run one Lifeboat for each project.',
  });
}

function keyOf(project: string, number: number): string {
  return `${project}/leases/${String(number).padStart(10, '0')}.json`;
}
