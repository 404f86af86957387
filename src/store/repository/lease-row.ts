import { z } from 'zod';
import { errorInfo, hasCode } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { canReplace, type Destination, type ObjectInfo, placeOf } from '../../destinations/destination.ts';
import { canonicalJson, FORMAT } from '../objects/manifest.ts';
import { isRefusal, readEvenDamaged, streamOf } from '../objects/objects.ts';

/**
 * The lease objects `<project>/leases/<number>.json` of a project. Only the newest one is in force. `put` gives each
 * number to one writer only, so the numbers define the order. A key that may not delete replaces the newest one instead
 * of putting the next, if the server checks versions.
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
  try {
    const body = streamOf(encode(value));
    await place.destination.put(leaseKey(place.project, number), body, { readBackByCaller: true });
    return true;
  } catch (error) {
    if (hasCode(error, 'DEST_EXISTS')) return false;
    throw error;
  }
}

/** A lease object as it was listed. */
export interface ListedLease {
  number: number;
  /** changes whenever the object is replaced; absent: the destination has no such value */
  version?: string | undefined;
}

/** Replaces a lease object. Resolves to false if another writer has replaced or deleted it since it was listed. */
export async function replaceLease(
  { destination, project }: RowPlace,
  { number, version }: ListedLease,
  value: Omit<LeaseObject, 'format'>,
): Promise<boolean> {
  if (!canReplace(destination) || version === undefined) return false;
  const bytes = encode(value);
  if (await destination.replace(leaseKey(project, number), bytes, version)) return true;
  // An attempt whose response was lost has replaced it.
  return (await readEvenDamaged(destination, leaseKey(project, number)))?.bytes?.equals(bytes) ?? false;
}

/** The places whose servers were asked, see {@link placeOf}. */
const safe = new Map<string, boolean>();
/** No object has this version. */
const NO_VERSION = '"00000000000000000000000000000000" 0';

/**
 * Returns whether a destination replaces an object if it has the expected version, and only then. Asks once for each
 * process: replaces a lease with the same bytes, once with a wrong version and once with the right one.
 */
export async function replacesSafely(place: RowPlace, { number, version }: ListedLease): Promise<boolean> {
  const { destination, project } = place;
  if (!canReplace(destination) || version === undefined) return false;
  const known = safe.get(placeOf(destination));
  if (known !== undefined) return known;
  const key = leaseKey(project, number);
  const bytes = (await readEvenDamaged(destination, key))?.bytes;
  if (!bytes) return false;
  const replaces = (expected: string) =>
    destination.replace(key, bytes, expected).catch((error: unknown) => {
      if (hasCode(error, 'DEST_UNREACHABLE')) throw error;
      return undefined;
    });
  const isIgnored = await replaces(NO_VERSION);
  const isSafe = isIgnored === false && (await replaces(version)) === true;
  // If another agent has just replaced the lease, the answer says nothing about the server.
  if (isSafe || isIgnored !== false) safe.set(placeOf(destination), isSafe);
  return isSafe;
}

function encode(value: Omit<LeaseObject, 'format'>): Buffer {
  return Buffer.from(`${canonicalJson({ format: FORMAT, ...value })}\n`);
}

/**
 * Deletes leases that are no longer the newest. Never rejects: old leases are harmless. Resolves to false if the key
 * may not delete them.
 */
export async function deleteLeases(
  { destination, project, log }: RowPlace & { log: Log },
  numbers: readonly number[],
): Promise<boolean> {
  for (const old of numbers) {
    try {
      await destination.delete(leaseKey(project, old));
    } catch (error) {
      log.debug('an old lease could not be deleted', { ...errorInfo(error) });
      // A key that may not delete is refused for each of them.
      if (isRefusal(error)) return false;
    }
  }
  return true;
}

/** The newest lease. */
export interface NewestLease extends ListedLease {
  /** 0 if there is none */
  number: number;
  /** its content, if it is readable */
  lease?: LeaseObject;
  /** the highest sequence that it or the lease before it claims */
  claimed: number;
  /** the number before it, if that is still there: the key may not delete it, or its holder was killed */
  before?: number;
}

/**
 * Reads the newest lease, and the claim of the one before it: that one may have been replaced after the newest one was
 * written.
 */
export async function readNewestLease(place: RowPlace): Promise<NewestLease> {
  const leases = await listLeases(place);
  const [newest, before] = leases.slice(-2).reverse();
  if (!newest) return { number: 0, claimed: 0 };
  const lease = await readLease(place, newest.number);
  const earlier = before && (await readLease(place, before.number));
  const claimed = Math.max(lease?.sequence ?? 0, earlier?.sequence ?? 0);
  return { ...newest, claimed, ...(lease ? { lease } : {}), ...(before ? { before: before.number } : {}) };
}

/** The number of attempts to read the newest lease while its holder replaces it. */
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
  for (const { number } of await listLeases(place)) {
    const key = leaseKey(place.project, number);
    // A lease that was removed since the listing is not damaged.
    if (!(await readLease(place, number)) && (await readEvenDamaged(place.destination, key))) damaged.push(key);
  }
  return damaged;
}

/**
 * Lists all leases, in the order of their numbers.
 *
 * @param see called for each object of the project, which are all listed then
 */
export async function listLeases(
  { destination, project }: RowPlace,
  see?: (object: ObjectInfo) => void,
): Promise<ListedLease[]> {
  const prefix = `${project}/leases/`;
  const leases: ListedLease[] = [];
  for await (const object of destination.list(see ? `${project}/` : prefix)) {
    see?.(object);
    const match = object.key.startsWith(prefix) && /^(\d{10})\.json$/.exec(object.key.slice(prefix.length));
    if (match) leases.push({ number: Number(match[1]), version: object.version });
  }
  // Some servers list in another order. The newest lease must not depend on that.
  return leases.sort((a, b) => a.number - b.number);
}

/** Returns the key of the lease with a number. */
export function leaseKey(project: string, number: number): string {
  return `${project}/leases/${String(number).padStart(10, '0')}.json`;
}
