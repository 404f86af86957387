import { z } from 'zod';
import { hasCode } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { canonicalJson, FORMAT } from '../objects/manifest.ts';
import { readEvenDamaged, streamOf } from '../objects/objects.ts';

/**
 * The row of lease objects `<project>/leases/<number>.json` of a project, of which only the newest counts. `put` gives a number to
 * one writer only, so the numbers say what came after what.
 */

const lease = z.object({
  format: z.literal(FORMAT),
  /** of this holding: a new one each time the lease is taken */
  token: z.string(),
  /** of the agent's memory: an agent that has it, and the local lock, knows that its former self is dead */
  home: z.string(),
  /** for people: the container, and what it is doing */
  holder: z.string(),
  at: z.iso.datetime(),
  expires: z.iso.datetime(),
  /** given back */
  released: z.boolean(),
  /** the highest sequence that a manifest was claimed for, by this holder or any before it */
  sequence: z.int().nonnegative().optional(),
});

/** What one object of the row says. */
export type LeaseObject = z.infer<typeof lease>;

/** Where a row is. */
interface RowPlace {
  destination: Destination;
  project: string;
}

/** Puts an object at a number. Resolves to false when another writer has put that number. */
export async function putLease(place: RowPlace, number: number, value: Omit<LeaseObject, 'format'>): Promise<boolean> {
  const text = `${canonicalJson({ format: FORMAT, ...value })}\n`;
  try {
    await place.destination.put(leaseKey(place.project, number), streamOf(text));
    return true;
  } catch (error) {
    if (hasCode(error, 'DEST_EXISTS')) return false;
    throw error;
  }
}

/** The newest number, 0 in an empty row, and what it says if it can be read. */
export async function readNewestLease(place: RowPlace): Promise<{ number: number; lease?: LeaseObject }> {
  const number = (await listLeases(place)).at(-1) ?? 0;
  const found = number === 0 ? undefined : await readLease(place, number);
  return { number, ...(found ? { lease: found } : {}) };
}

/** One that cannot be read binds nobody: its holder is stopped by the next number. */
export async function readLease({ destination, project }: RowPlace, number: number): Promise<LeaseObject | undefined> {
  const bytes = await readEvenDamaged(destination, leaseKey(project, number));
  if (!Buffer.isBuffer(bytes)) return undefined;
  try {
    return lease.parse(JSON.parse(bytes.toString('utf8')));
  } catch {
    return undefined;
  }
}

/** The keys of those that cannot be read, or are not a lease. */
export async function damagedLeases(place: RowPlace): Promise<string[]> {
  const damaged: string[] = [];
  for (const number of await listLeases(place)) {
    const key = leaseKey(place.project, number);
    // One that was removed since is not there any more.
    if (!(await readLease(place, number)) && (await readEvenDamaged(place.destination, key))) damaged.push(key);
  }
  return damaged;
}

/** All numbers of a row, ascending. */
export async function listLeases({ destination, project }: RowPlace): Promise<number[]> {
  const prefix = `${project}/leases/`;
  const numbers: number[] = [];
  for await (const { key } of destination.list(prefix)) {
    const match = /^(\d{10})\.json$/.exec(key.slice(prefix.length));
    if (match) numbers.push(Number(match[1]));
  }
  return numbers;
}

/** Where the object of a number is. */
export function leaseKey(project: string, number: number): string {
  return `${project}/leases/${String(number).padStart(10, '0')}.json`;
}
