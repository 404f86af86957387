import type { Destination } from '../../destinations/destination.ts';
import { canonicalJson, FORMAT } from './manifest.ts';
import { readDocument, streamOf } from './objects.ts';

/** Where the record of a restore or rollback is. */
export function restoreKey(project: string, id: string): string {
  return `${project}/restores/${id}.json`;
}

/** Stores evidence of what was done (a restore, a drill): plain JSON with sorted keys. Nothing secret may be in it. */
export async function putRecord(destination: Destination, key: string, value: object): Promise<void> {
  await destination.put(key, streamOf(`${canonicalJson({ format: FORMAT, ...value })}\n`));
}

/** What {@link putRecord} stored. OBJECT_MISSING. */
export async function readRecord(destination: Destination, key: string): Promise<Record<string, unknown>> {
  return JSON.parse((await readDocument(destination, key)).toString('utf8')) as Record<string, unknown>;
}
