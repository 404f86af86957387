import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { LifeboatError } from '../../base/errors.ts';
import type { Destination, ObjectInfo } from '../../destinations/destination.ts';
import { MAX_DOCUMENT, mostUnpacked } from './bounds.ts';
import { canonicalJson, type ObjectRef } from './manifest.ts';
import { putObject, streamOf } from './objects.ts';

/**
 * Refuses a document that would be too large to read back.
 *
 * @param what names the document in the message
 * @param size size of the plain document, bytes
 * @param limit the largest size that is read back, bytes
 * @throws SNAPSHOT_TOO_LARGE
 */
export function checkDocumentSize(what: string, size: number, limit = MAX_DOCUMENT): void {
  if (size > limit) throw tooLarge(what, size, limit);
}

/** Returns SNAPSHOT_TOO_LARGE. Sizes in bytes. */
export function tooLarge(what: string, size: number, limit: number): LifeboatError {
  const mib = (bytes: number) => Math.ceil(bytes / 1024 / 1024);
  const message = `${what} would have ${mib(size)} MiB, but no more than ${mib(limit)} MiB can be read back`;
  return new LifeboatError('SNAPSHOT_TOO_LARGE', message, {
    hint: 'Nothing was committed, and earlier snapshots are unchanged. Exclude part of the data, or divide it among several Compose projects.',
  });
}

/** Puts a value as JSON with sorted keys, compressed and encrypted as `options` say. @throws SNAPSHOT_TOO_LARGE */
export async function putDocument(
  destination: Destination,
  key: string,
  { what, value }: { what: string; value: unknown },
  options: Parameters<typeof putObject>[3],
): Promise<ObjectRef> {
  const text = Buffer.from(`${canonicalJson(value)}\n`);
  checkDocumentSize(what, text.length);
  return putObject(destination, key, streamOf(text), options);
}

/** Puts a local file as an object. @throws SNAPSHOT_TOO_LARGE if it could not be read again */
export async function putFile(
  destination: Destination,
  key: string,
  path: string,
  options: Parameters<typeof putObject>[3],
): Promise<ObjectRef> {
  const ref = await putObject(destination, key, createReadStream(path, { highWaterMark: 256 * 1024 }), options);
  const { size } = await stat(path);
  if (size > mostUnpacked(ref.size)) throw tooLarge(ref.key, size, mostUnpacked(ref.size));
  return ref;
}

/**
 * Checks that objects of a project exist with the right size. @throws OBJECT_MISSING, OBJECT_DAMAGED, DEST_UNREACHABLE
 */
export async function checkPresence(
  destination: Destination,
  project: string,
  refs: readonly (ObjectRef | undefined)[],
): Promise<void> {
  const presence = new Presence(refs);
  for await (const object of destination.list(`${project}/`)) presence.see(object);
  presence.finish();
}

/** Compares objects that should exist with a listing of a project, which passes its objects one by one. */
export class Presence {
  /** true once an object was seen: somebody lists */
  listed = false;
  private readonly missing: Map<string, ObjectRef>;
  private wrong: LifeboatError | undefined;

  constructor(refs: readonly (ObjectRef | undefined)[]) {
    this.missing = new Map(refs.flatMap((ref) => (ref ? [[ref.key, ref]] : [])));
  }

  see({ key, size, unread }: ObjectInfo): void {
    this.listed = true;
    const ref = this.missing.get(key);
    if (!ref) return;
    this.missing.delete(key);
    if (unread) this.wrong ??= unread;
    else if (size !== ref.size)
      this.wrong ??= new LifeboatError('OBJECT_DAMAGED', `${key} has ${size} B instead of ${ref.size}`);
  }

  /** Call this after the last object. @throws OBJECT_MISSING, OBJECT_DAMAGED, DEST_UNREACHABLE */
  finish(): void {
    if (this.wrong) throw this.wrong;
    for (const key of this.missing.keys()) throw new LifeboatError('OBJECT_MISSING', `${key} is not there`);
  }
}

/**
 * Returns the keys of those objects of a project that are missing or have a wrong size. Throws what the listing throws.
 */
export async function listIncomplete(
  destination: Destination,
  project: string,
  refs: readonly ObjectRef[],
): Promise<Set<string>> {
  const sizes = new Map(refs.map(({ key, size }) => [key, size]));
  const wrong = new Set(sizes.keys());
  for await (const { key, size } of destination.list(`${project}/`)) if (size === sizes.get(key)) wrong.delete(key);
  return wrong;
}
