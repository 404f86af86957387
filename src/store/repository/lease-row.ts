import { z } from 'zod';
import { errorInfo, hasCode } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Destination, ObjectInfo } from '../../destinations/destination.ts';
import { canonicalJson, FORMAT } from '../objects/manifest.ts';
import { isRefusal, readEvenDamaged, streamOf } from '../objects/objects.ts';

/**
 * The lease objects `<project>/leases/<number>.json` of a project. Only the newest one is in force. `put` gives each
 * number to one writer only, so the numbers define the order.
 */

const lease = z.object({
  format: z.literal(FORMAT),
  /** identifies one holding of the lease; new each time the lease is taken */
  token: z.string(),
  /**
   * id of the agent's state directory; an agent with the same id and the local lock knows that the former holder is
   * dead
   */
  home: z.string(),
  /** for people: the container and what it is doing */
  holder: z.string(),
  at: z.iso.datetime(),
  expires: z.iso.datetime(),
  /** true if the holder has given the lease back */
  released: z.boolean(),
  /** the highest sequence that this holder or any earlier one has claimed for a manifest */
  sequence: z.int().nonnegative().optional(),
});

/** The content of one lease object. */
export type LeaseObject = z.infer<typeof lease>;

/** The location of a project's leases. */
interface RowPlace {
  destination: Destination;
  project: string;
}

/** Puts the lease object with a number. Resolves to false if another writer has put that number. */
export async function putLease(place: RowPlace, number: number, value: Omit<LeaseObject, 'format'>): Promise<boolean> {
  const text = `${canonicalJson({ format: FORMAT, ...value })}\n`;
  try {
    await place.destination.put(leaseKey(place.project, number), streamOf(text), { readBackByCaller: true });
    return true;
  } catch (error) {
    if (hasCode(error, 'DEST_EXISTS')) return false;
    throw error;
  }
}

/** Deletes leases that are no longer the newest. Never rejects: old leases are harmless. */
export async function deleteLeases(
  { destination, project, log }: RowPlace & { log: Log },
  numbers: readonly number[],
): Promise<void> {
  for (const old of numbers) {
    try {
      await destination.delete(leaseKey(project, old));
    } catch (error) {
      log.debug('an old lease could not be deleted', { ...errorInfo(error) });
      // A key that may not delete is refused for each of them.
      if (isRefusal(error)) break;
    }
  }
}

/** Reads the newest lease: its number, 0 if there is none, and its content if it is readable. */
export async function readNewestLease(place: RowPlace): Promise<{ number: number; lease?: LeaseObject }> {
  const number = (await listLeases(place)).at(-1) ?? 0;
  const found = number === 0 ? undefined : await readLease(place, number);
  return { number, ...(found ? { lease: found } : {}) };
}

/** How often the newest lease is read while its holder replaces it. */
const READS = 5;

/**
 * Returns the token of a project's newest lease, held or released. Each holding has a unique token. So if another
 * location has the same token, both locations are the same place.
 */
export async function leaseTokenAt(destination: Destination, project: string): Promise<string | undefined> {
  for (let tried = 1; tried <= READS; tried++) {
    const newest = await readNewestLease({ destination, project });
    if (newest.lease) return newest.lease.token;
    // There is no lease, or its holder replaced it while it was read: then try again.
    if (newest.number === 0) return undefined;
  }
  return undefined;
}

/** Reads a lease. One that is missing or unreadable is undefined and binds nobody: the next number stops its holder. */
export async function readLease({ destination, project }: RowPlace, number: number): Promise<LeaseObject | undefined> {
  const found = await readEvenDamaged(destination, leaseKey(project, number));
  if (!found?.bytes) return undefined;
  try {
    return lease.parse(JSON.parse(found.bytes.toString('utf8')));
  } catch {
    return undefined;
  }
}

/** Returns the keys of leases that are unreadable or malformed. */
export async function damagedLeases(place: RowPlace): Promise<string[]> {
  const damaged: string[] = [];
  for (const number of await listLeases(place)) {
    const key = leaseKey(place.project, number);
    // A lease that was removed since the listing is not damaged.
    if (!(await readLease(place, number)) && (await readEvenDamaged(place.destination, key))) damaged.push(key);
  }
  return damaged;
}

/**
 * Returns the numbers of all leases, ascending.
 *
 * @param see called for each object of the project, which are all listed then
 */
export async function listLeases(
  { destination, project }: RowPlace,
  see?: (object: ObjectInfo) => void,
): Promise<number[]> {
  const prefix = `${project}/leases/`;
  const numbers: number[] = [];
  for await (const object of destination.list(see ? `${project}/` : prefix)) {
    see?.(object);
    const match = object.key.startsWith(prefix) && /^(\d{10})\.json$/.exec(object.key.slice(prefix.length));
    if (match) numbers.push(Number(match[1]));
  }
  return numbers;
}

/** Returns the key of the lease with a number. */
export function leaseKey(project: string, number: number): string {
  return `${project}/leases/${String(number).padStart(10, '0')}.json`;
}
