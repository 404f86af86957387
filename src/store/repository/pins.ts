import { z } from 'zod';
import { hasCode, LifeboatError } from '../../base/errors.ts';
import { canonicalJson, FORMAT } from '../objects/manifest.ts';
import { readEvenDamaged, streamOf } from '../objects/objects.ts';
import { parseSnapshotId } from '../objects/snapshot-id.ts';
import type { Repository } from './repository.ts';
import { type Signing, type Verdict, verdictOf } from './signing.ts';

/** Why a snapshot is kept whatever the retention says, and since when. */
export interface Pin {
  reason: string;
  /** ISO time */
  at: string;
}

const pin = z.object({ format: z.literal(FORMAT), reason: z.string(), at: z.iso.datetime() });

/** Where a project's pins are, and by which keys they are signed. */
type Place = Pick<Repository, 'destination' | 'project' | 'signing'>;

/** Keeps a snapshot until it is unpinned: an object `<project>/pins/<id>.json`. One that is pinned keeps its first reason. */
export async function putPin({ destination, project, signing }: Place, id: string, { reason, at }: Pin): Promise<void> {
  const text = `${canonicalJson(signing.sign('pin', { format: FORMAT, id, project, reason, at }))}\n`;
  try {
    await destination.put(pinKey(project, id), streamOf(text));
  } catch (error) {
    if (!hasCode(error, 'DEST_EXISTS')) throw error;
  }
}

/** Resolves also when it was not pinned. */
export async function deletePin({ destination, project }: Omit<Place, 'signing'>, id: string): Promise<void> {
  await destination.delete(pinKey(project, id));
}

/** Whether that one snapshot is pinned now. */
export async function isPinned({ destination, project }: Omit<Place, 'signing'>, id: string): Promise<boolean> {
  return (await readEvenDamaged(destination, pinKey(project, id))) !== undefined;
}

/**
 * All pins of a project by snapshot id. One that cannot be read, or is not what was signed, counts all the same: keeping is the
 * safe side. `seen` hears what the signature of each is worth.
 */
export async function readPins(
  { destination, project, signing }: Omit<Place, 'signing'> & { signing?: Signing },
  seen?: (id: string, verdict: Verdict | LifeboatError) => void,
): Promise<Map<string, Pin>> {
  const pins = new Map<string, Pin>();
  const prefix = `${project}/pins/`;
  for await (const { key } of destination.list(prefix)) {
    const id = key.slice(prefix.length).replace(/\.json$/, '');
    if (!parseSnapshotId(id)) continue;
    const bytes = await readEvenDamaged(destination, key);
    if (bytes === undefined) continue;
    const text = Buffer.isBuffer(bytes) ? bytes.toString('utf8') : '';
    pins.set(id, decode(text) ?? { reason: 'the pin cannot be read', at: new Date(0).toISOString() });
    if (bytes instanceof LifeboatError) {
      seen?.(id, bytes);
      continue;
    }
    if (seen && signing) seen(id, verdictOf(signing, 'pin', text, { id, project }));
  }
  return pins;
}

function decode(text: string): Pin | undefined {
  try {
    const { reason, at } = pin.parse(JSON.parse(text));
    return { reason, at };
  } catch {
    return undefined;
  }
}

/** Where the pin of a snapshot is. */
export function pinKey(project: string, id: string): string {
  return `${project}/pins/${id}.json`;
}
