import { z } from 'zod';
import type { Destination } from '../destinations/destination.ts';
import { LifeboatError } from '../errors.ts';
import { canonicalJson, FORMAT } from './manifest.ts';
import { readIfThere, streamOf } from './objects.ts';
import { parseSnapshotId } from './snapshot-id.ts';

/** Why a snapshot is kept whatever the retention says, and since when. */
export interface Pin {
  reason: string;
  /** ISO time */
  at: string;
}

const pin = z.object({ format: z.literal(FORMAT), reason: z.string(), at: z.iso.datetime() });

/** Keeps a snapshot until it is unpinned: an object `<project>/pins/<id>.json`. One that is pinned keeps its first reason. */
export async function putPin(
  destination: Destination,
  project: string,
  id: string,
  { reason, at }: Pin,
): Promise<void> {
  const text = `${canonicalJson({ format: FORMAT, reason, at })}\n`;
  try {
    await destination.put(pinKey(project, id), streamOf(text));
  } catch (error) {
    if (!(error instanceof LifeboatError && error.code === 'DEST_EXISTS')) throw error;
  }
}

/** Resolves also when it was not pinned. */
export async function deletePin(destination: Destination, project: string, id: string): Promise<void> {
  await destination.delete(pinKey(project, id));
}

/** Whether that one snapshot is pinned now. */
export async function isPinned(destination: Destination, project: string, id: string): Promise<boolean> {
  return (await readIfThere(destination, pinKey(project, id))) !== undefined;
}

/** All pins of a project by snapshot id. One that cannot be read counts all the same: keeping is the safe side. */
export async function readPins(destination: Destination, project: string): Promise<Map<string, Pin>> {
  const pins = new Map<string, Pin>();
  const prefix = `${project}/pins/`;
  for await (const { key } of destination.list(prefix)) {
    const id = key.slice(prefix.length).replace(/\.json$/, '');
    if (!parseSnapshotId(id)) continue;
    const bytes = await readIfThere(destination, key);
    if (bytes)
      pins.set(
        id,
        decode(bytes.toString('utf8')) ?? { reason: 'the pin cannot be read', at: new Date(0).toISOString() },
      );
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

function pinKey(project: string, id: string): string {
  return `${project}/pins/${id}.json`;
}
