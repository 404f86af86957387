import { createHash, randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import { onAbort } from '../../base/abort.ts';
import { hasCode } from '../../base/errors.ts';
import { type S3Location, s3Place } from '../../plan/s3-location.ts';
import type {
  BulkDeletingDestination,
  ListOptions,
  LockingDestination,
  ObjectInfo,
  PutOptions,
  ReplacingDestination,
  Stored,
} from '../destination.ts';
import { alreadyThere, checkKey, checkPrefix, isAfter, isKey } from '../keys.ts';
import { S3Connection, type S3Credentials } from './client.ts';
import { deleteMany, deleteOne } from './delete.ts';
import { incompleteListing } from './errors.ts';
import { openObject } from './get.ts';
import { S3Locks } from './locks.ts';
import { putInParts } from './multipart.ts';
import { S3Put } from './objects.ts';
import { PartBuffers, PartReader, partSize } from './parts.ts';
import { replaceObject } from './replace.ts';
import { S3_LIMITS, type S3Limits } from './retry.ts';
import { sweepUploads, UploadLog } from './uploads.ts';

export interface S3Options {
  location: S3Location;
  credentials?: S3Credentials;
  /** base64 of the customer key (SSE-C), if the location asks for one */
  customerKey?: string | undefined;
  /** directory on the agent's own disk that records uploads in parts; created when it is needed */
  uploads: string;
  /** directory that records until when objects are locked; default: next to `uploads` */
  locks?: string;
  /** source of the proxy variables; default: the environment of the process */
  env?: NodeJS.ProcessEnv;
  limits?: Partial<S3Limits>;
  /** aborts when the process shuts down: requests in progress then end within seconds */
  hurry?: AbortSignal | undefined;
}

/**
 * Stores objects below a prefix of a bucket, on AWS or any S3-compatible server. Sends small objects in one request,
 * and others in parts. Nothing is visible before it is complete. Checks the size of every object after storing it. The
 * server itself compares the content of each request with its MD5.
 */
export function createS3Destination(
  options: S3Options,
): LockingDestination & BulkDeletingDestination & ReplacingDestination {
  const { location, credentials, customerKey, env = process.env, hurry } = options;
  const limits = { ...S3_LIMITS, ...options.limits };
  const s3 = new S3Connection({ location, limits, env, hurry, customerKey, ...(credentials ? { credentials } : {}) });
  const log = new UploadLog(options.uploads);
  const locks = new S3Locks(s3, options.locks ?? `${options.uploads}-locks`);
  const buffers = new PartBuffers();
  return {
    name: s3.name,
    place: s3Place(location),

    async put(key, body, putOptions = {}) {
      checkKey(key);
      let bodyError: unknown;
      body.once('error', (error) => {
        bodyError = error;
      });
      const { signal } = putOptions;
      const forget = onAbort(signal, () =>
        body.destroy(signal?.reason instanceof Error ? signal.reason : new Error('aborted')),
      );
      try {
        signal?.throwIfAborted();
        if (!putOptions.newKey) await locks.forget([key]);
        return await store({ s3, log, buffers }, key, body, putOptions);
      } catch (error) {
        body.destroy();
        signal?.throwIfAborted();
        throw error === bodyError ? error : s3.explain(error, 'put', signal);
      } finally {
        forget();
      }
    },

    async get(key, { range, signal } = {}) {
      checkKey(key);
      return openObject(s3, key, range, signal);
    },

    list: (prefix, options = {}) => list(s3, checkPrefix(prefix), options),

    async delete(key, { signal } = {}) {
      await locks.forget([checkKey(key)]);
      await deleteOne(s3, key, signal);
    },

    async deleteMany(keys, options = {}) {
      await locks.forget(keys.map(checkKey));
      return deleteMany(s3, [...keys], options);
    },

    replace: (key, content, version, signal) => replaceObject(s3, checkKey(key), { content, version }, signal),

    prolongLocks: (keys, now, signal, alive) => locks.prolong(keys.map(checkKey), now.getTime(), signal, alive),

    sweepTemporary: ({ prefix = '', ...sweep } = {}) => sweepUploads(s3, log, checkPrefix(prefix), sweep),
  };
}

interface Means {
  s3: S3Connection;
  log: UploadLog;
  buffers: PartBuffers;
}

async function store(
  { s3, log, buffers: all }: Means,
  key: string,
  body: Readable,
  { signal, expectedSize, keepOnFailure, whole, newKey = false, readBackByCaller = false }: PutOptions,
): Promise<Stored> {
  const begun = whole && (await log.find(key, whole));
  const put = new S3Put(s3, key, begun?.mark ?? randomBytes(12).toString('hex'), signal);
  // Not every server honours If-None-Match, so this always checks as well.
  if (!newKey && (await put.head())) throw alreadyThere(key);
  const hash = createHash('sha256');
  const reader = new PartReader(body, hash);
  const buffers = all.share();
  try {
    const first = await buffers.take(partSize(0, expectedSize));
    const filled = await reader.fill(first);
    const sent =
      filled < first.length
        ? put.whole(first.subarray(0, filled), newKey || readBackByCaller)
        : putInParts({ s3, log, put, key, begun, signal }, { reader, buffers, first, expectedSize, whole });
    await sent.catch(async (error: unknown) => {
      const isOthers = hasCode(error, 'DEST_EXISTS');
      if (!isOthers && !keepOnFailure && !put.toBeResumed) await put.discard();
      throw error;
    });
  } finally {
    buffers.end();
  }
  return { size: reader.size, sha256: hash.digest('hex') };
}

async function* list(s3: S3Connection, prefix: string, { signal, after }: ListOptions): AsyncGenerator<ObjectInfo> {
  let from: { ContinuationToken?: string; StartAfter?: string } =
    after === undefined ? {} : { StartAfter: s3.prefix + after };
  for (;;) {
    const request = { Bucket: s3.bucket, Prefix: s3.prefix + prefix, ...from };
    const page = await s3
      .send((sdk, client, options) => client.send(new sdk.ListObjectsV2Command(request), options), { signal })
      .catch((error: unknown) => {
        throw s3.explain(error, 'list', signal);
      });
    for (const { Key = '', Size = 0, ETag, LastModified } of page.Contents ?? []) {
      const key = Key.slice(s3.prefix.length);
      // Consoles create objects that represent folders, and other programs may use keys that are not valid here.
      // Not every server knows `start-after`.
      if (Key.startsWith(s3.prefix + prefix) && isKey(key) && isAfter(key, after)) {
        yield { key, size: Size, ...(ETag ? { version: `${ETag} ${LastModified?.getTime() ?? 0}` } : {}) };
      }
    }
    if (!page.IsTruncated) return;
    if (!page.NextContinuationToken) throw incompleteListing(s3.name);
    from = { ContinuationToken: page.NextContinuationToken };
  }
}
