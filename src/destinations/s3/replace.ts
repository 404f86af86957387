import { createHash } from 'node:crypto';
import type { S3Connection } from './client.ts';
import { isNoBucket } from './get.ts';
import { statusOf } from './retry.ts';

/** A version in a listing: the ETag in quotes, a space, and the time of the last change. */
const VERSION = /^("?)([^\s"]+)\1/;

/**
 * Replaces an object if its ETag is still that of `version`, see {@link ReplacingDestination}. Resolves to false if the
 * server finds another one. That is also so if an attempt whose response was lost has replaced the object.
 *
 * RFC 9110 (8.8.3) demands quotes around an ETag. Ceph 18 and 20 compare the header with the bare ETag.
 *
 * @throws the errors of a request
 */
export async function replaceObject(
  s3: S3Connection,
  key: string,
  { content, version }: { content: Buffer; version: string },
  signal?: AbortSignal,
): Promise<boolean> {
  const [, , etag = version] = VERSION.exec(version) ?? [];
  for (const condition of [`"${etag}"`, etag]) if (await put(s3, key, { content, condition }, signal)) return true;
  return false;
}

async function put(
  s3: S3Connection,
  key: string,
  { content, condition }: { content: Buffer; condition: string },
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const request = {
    ...{ Bucket: s3.bucket, Key: s3.prefix + key, Body: content, ContentLength: content.length },
    ContentMD5: createHash('md5').update(content).digest('base64'),
    IfMatch: condition,
  };
  try {
    await s3.send((sdk, client, options) => client.send(new sdk.PutObjectCommand(request), options), { signal });
    return true;
  } catch (error) {
    const status = statusOf(error);
    if (status === 412 || status === 409 || (status === 404 && !isNoBucket(error))) return false;
    throw s3.explain(error, 'put', signal);
  }
}
