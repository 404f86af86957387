import type { Destination } from '../../destinations/destination.ts';
import { canonicalJson, FORMAT } from './manifest.ts';
import { readDocument, streamOf } from './objects.ts';

/** Returns the key of the record of a restore or rollback. */
export function restoreKey(project: string, id: string): string {
  return `${project}/restores/${id}.json`;
}

/** Returns the prefix of the keys of all records of restores and rollbacks. */
export function restorePrefix(project: string): string {
  return `${project}/restores/`;
}

/** Returns the key of the evidence of a drill. */
export function drillKey(project: string, id: string): string {
  return `${drillPrefix(project)}${id}.json`;
}

/** Returns the prefix of the keys of all evidence of drills. */
export function drillPrefix(project: string): string {
  return `${project}/drills/`;
}

/** Puts the record of an action (a restore, a drill) as plain JSON with sorted keys. It must not contain secrets. */
export async function putRecord(destination: Destination, key: string, value: object): Promise<void> {
  await destination.put(key, streamOf(`${canonicalJson({ format: FORMAT, ...value })}\n`));
}

/** Reads a record that {@link putRecord} stored. @throws OBJECT_MISSING */
export async function readRecord(destination: Destination, key: string): Promise<Record<string, unknown>> {
  return JSON.parse((await readDocument(destination, key)).toString('utf8')) as Record<string, unknown>;
}
