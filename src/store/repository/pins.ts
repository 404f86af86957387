import { z } from 'zod';
import { hasCode, type LifeboatError, toLifeboatError } from '../../base/errors.ts';
import { canonicalJson, FORMAT } from '../objects/manifest.ts';
import { readEvenDamaged, streamOf } from '../objects/objects.ts';
import { parseSnapshotId } from '../objects/snapshot-id.ts';
import type { Repository } from './repository.ts';
import { type Signing, type Verdict, verifyText } from './signing.ts';

/** Why and since when a snapshot is kept regardless of the retention. */
export interface Pin {
  reason: string;
  /** ISO time */
  at: string;
}

const pin = z.object({ format: z.literal(FORMAT), reason: z.string(), at: z.iso.datetime() });

/** The location of a project's pins, and the keys that sign them. */
type Place = Pick<Repository, 'destination' | 'project' | 'signing'>;

/** Pins a snapshot: puts `<project>/pins/<id>.json`. A snapshot that is already pinned keeps its first reason. */
export async function putPin({ destination, project, signing }: Place, id: string, { reason, at }: Pin): Promise<void> {
  const text = `${canonicalJson(signing.sign('pin', { format: FORMAT, id, project, reason, at }))}\n`;
  try {
    await destination.put(pinKey(project, id), streamOf(text));
  } catch (error) {
    if (!hasCode(error, 'DEST_EXISTS')) throw error;
  }
}

/** Unpins a snapshot. Also resolves if it was not pinned. */
export async function deletePin({ destination, project }: Omit<Place, 'signing'>, id: string): Promise<void> {
  await destination.delete(pinKey(project, id));
}

/** Returns whether a snapshot is pinned now. */
export async function isPinned({ destination, project }: Omit<Place, 'signing'>, id: string): Promise<boolean> {
  return (await readEvenDamaged(destination, pinKey(project, id))) !== undefined;
}

/**
 * Reads all pins of a project, by snapshot id. A pin that is unreadable or has a wrong signature still counts, because
 * keeping a snapshot is the safe choice.
 *
 * @param on `seen` is called for each pin with the verdict on its signature, `wrong` for each pin that cannot be read
 * or verified
 */
export async function readPins(
  { destination, project, signing }: Omit<Place, 'signing'> & { signing?: Signing },
  on?: { seen?(id: string, verdict: Verdict): void; wrong(id: string, error: LifeboatError): void },
): Promise<Map<string, Pin>> {
  const pins = new Map<string, Pin>();
  const prefix = `${project}/pins/`;
  for await (const { key } of destination.list(prefix)) {
    const id = key.slice(prefix.length).replace(/\.json$/, '');
    if (!parseSnapshotId(id)) continue;
    const found = await readEvenDamaged(destination, key);
    if (!found) continue;
    const text = found.bytes?.toString('utf8') ?? '';
    pins.set(id, decode(text) ?? { reason: 'the pin cannot be read', at: new Date(0).toISOString() });
    if (found.damage) {
      on?.wrong(id, found.damage);
      continue;
    }
    if (!on || !signing) continue;
    try {
      const verdict = verifyText(signing, 'pin', text, { id, project });
      on.seen?.(id, verdict);
    } catch (error) {
      on.wrong(id, toLifeboatError(error));
    }
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

/** Returns the key of a snapshot's pin. */
export function pinKey(project: string, id: string): string {
  return `${project}/pins/${id}.json`;
}
