import { LifeboatError } from '../../base/errors.ts';
import type { DeleteManyOptions } from '../destination.ts';
import type { S3Connection } from './client.ts';
import { isNoBucket } from './get.ts';
import { isPassing, statusOf } from './retry.ts';

/** The most objects that one request may name. */
const IN_ONE_REQUEST = 1000;
/** The number of single deletions in progress at a time. */
const AT_ONCE = 8;
/** After this many refusals the key may delete nothing, and asking for the other objects is pointless. */
const REFUSALS = 20;

/** Deletes an object. Resolves if it does not exist. @throws DELETE_REFUSED; the errors of a request */
export async function deleteOne(s3: S3Connection, key: string, signal?: AbortSignal): Promise<void> {
  const request = { Bucket: s3.bucket, Key: s3.prefix + key };
  try {
    await s3.send((sdk, client, options) => client.send(new sdk.DeleteObjectCommand(request), options), { signal });
  } catch (error) {
    if (statusOf(error) === 404 && !isNoBucket(error)) return;
    throw s3.explain(error, 'delete', signal);
  }
}

/**
 * Deletes objects, many with each request (`DeleteObjects`). A server that does not support that gets single requests,
 * several at a time. Returns the keys that the server does not let this key delete.
 *
 * @throws the errors of a request; the signal's reason
 */
export async function deleteMany(
  s3: S3Connection,
  keys: readonly string[],
  options: DeleteManyOptions,
): Promise<string[]> {
  const refused: string[] = [];
  for (let at = 0; at < keys.length; at += IN_ONE_REQUEST) {
    const some = keys.slice(at, at + IN_ONE_REQUEST);
    // A single request needs no list, and every server supports it.
    const left = some.length === 1 ? some : await deleteInOne(s3, some, options);
    refused.push(...(await deleteSingly(s3, left, options)));
    if (refused.length >= REFUSALS) return [...refused, ...keys.slice(at + IN_ONE_REQUEST)];
  }
  return refused;
}

/** Deletes objects with one request. Returns the keys that are not deleted, whatever the reason. */
async function deleteInOne(
  s3: S3Connection,
  keys: readonly string[],
  { signal, before }: DeleteManyOptions,
): Promise<readonly string[]> {
  if (!s3.deletesInBulk) return keys;
  await before?.();
  const request = {
    Bucket: s3.bucket,
    Delete: { Quiet: true, Objects: keys.map((key) => ({ Key: s3.prefix + key })) },
  };
  try {
    const { Errors = [] } = await s3.send(
      (sdk, client, options) => client.send(new sdk.DeleteObjectsCommand(request), options),
      { signal },
    );
    if (Errors.some(({ Key }) => Key === undefined)) return keys;
    const failed = new Set(Errors.flatMap(({ Key, Code }) => (Key && Code !== 'NoSuchKey' ? [Key] : [])));
    return keys.filter((key) => failed.has(s3.prefix + key));
  } catch (error) {
    const status = statusOf(error);
    // A refusal of the whole request says nothing about the single objects, and servers without it say so differently.
    const isRefused = status !== undefined && status >= 400 && !isPassing(error) && !isNoBucket(error);
    if (!isRefused || signal?.aborted) throw s3.explain(error, 'delete', signal);
    s3.deletesInBulk = false;
    return keys;
  }
}

/** Deletes objects with one request each. Returns the keys that the server does not let this key delete. */
async function deleteSingly(
  s3: S3Connection,
  keys: readonly string[],
  { signal, before }: DeleteManyOptions,
): Promise<string[]> {
  const refused: string[] = [];
  const queue = [...keys];
  const work = async () => {
    for (let key = queue.shift(); key !== undefined; key = queue.shift()) {
      signal?.throwIfAborted();
      if (refused.length >= REFUSALS) {
        refused.push(key);
        continue;
      }
      await before?.();
      try {
        await deleteOne(s3, key, signal);
      } catch (error) {
        const isKept = error instanceof LifeboatError && error.code === 'DELETE_REFUSED';
        if (!isKept) throw error;
        refused.push(key);
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, queue.length) }, work));
  } finally {
    queue.length = 0;
  }
  return refused;
}
