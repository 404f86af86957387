import { errorInfo } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { LeaseObject } from './lease-row.ts';

/** When an agent first saw a lease whose end is too far in the future. */
export interface LeaseSighting {
  /** number, token and time of the lease; a holder that is alive changes the number or the time */
  lease: string;
  /** milliseconds since 1970, by the agent's own clock */
  at: number;
}

/** Stores sightings across processes, one for each place. */
export interface LeaseSightings {
  leaseSighting(place: string): Promise<LeaseSighting | undefined>;
  saveLeaseSighting(place: string, sighting: LeaseSighting): Promise<void>;
}

/** Sightings of this process. They limit a lease even if the agent's state cannot be written. */
const ofProcess = new Map<string, LeaseSighting>();

/** Where and when a lease was read, and by which agent. */
interface Look {
  /** the agent, the destination and the project */
  place: string;
  number: number;
  /** milliseconds since 1970 */
  now: number;
  /** how long leases last, milliseconds */
  lengthMs: number;
  sightings: LeaseSightings;
  log?: Log;
}

/**
 * Returns when a lease ends by this agent's own clock, milliseconds since 1970.
 *
 * A host whose clock is wrong can write a lease that ends far in the future. Such a lease ends one length after this
 * agent first saw it, because a holder that is alive puts the next number long before that. The first sighting is
 * stored, so the limit also applies to commands that run one after another. If the holder is alive after all, the fence
 * stops one of the two agents.
 */
export async function endOfLease({ token, at: since, expires }: LeaseObject, look: Look): Promise<number> {
  const { place, number, now, lengthMs } = look;
  const end = Date.parse(expires);
  if (end - now <= lengthMs) return end;
  const lease = `${number} ${token} ${since}`;
  const known = [ofProcess.get(place), await recall(look)].filter((one) => one?.lease === lease && one.at <= now);
  const at = Math.min(now, ...known.map((one) => one?.at ?? now));
  ofProcess.set(place, { lease, at });
  if (known.length < 2) await remember(look, { lease, at });
  return at + lengthMs;
}

async function recall({ sightings, place }: Look): Promise<LeaseSighting | undefined> {
  return sightings.leaseSighting(place).catch(() => undefined);
}

async function remember({ sightings, place, log }: Look, sighting: LeaseSighting): Promise<void> {
  await sightings.saveLeaseSighting(place, sighting).catch((error: unknown) => {
    log?.warn("Lifeboat's state could not be written, so the next command may wait for the same lease again", {
      ...errorInfo(error),
    });
  });
}
