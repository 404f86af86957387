import { Readable } from 'node:stream';
import { LifeboatError } from '../../base/errors.ts';
import type { ByteRange } from '../destination.ts';
import { type S3Answer, S3Body } from './body.ts';
import type { S3Connection } from './client.ts';
import { statusOf } from './retry.ts';

/** Opens an object, or a part of it. @throws OBJECT_MISSING before any byte; OBJECT_ARCHIVED */
export async function openObject(
  s3: S3Connection,
  key: string,
  range: ByteRange | undefined,
  signal: AbortSignal | undefined,
): Promise<Readable> {
  const start = range?.start ?? 0;
  if (range && range.end <= start) return Readable.from([]);
  const ask = async (from: number, etag: string | undefined, until: AbortSignal | undefined): Promise<S3Answer> => {
    const begin = start + from;
    const bytes = range ? `bytes=${begin}-${range.end - 1}` : begin > 0 ? `bytes=${begin}-` : undefined;
    const request = {
      Bucket: s3.bucket,
      Key: s3.prefix + key,
      ...(bytes ? { Range: bytes } : {}),
      ...(etag ? { IfMatch: etag } : {}),
    };
    const { Body, ContentLength, ETag } = await s3.send(
      (sdk, client, options) => client.send(new sdk.GetObjectCommand(request), options),
      { signal: until },
    );
    // A response without a length does not come from an S3 server, see refuseNotS3.
    return { body: Body as Readable, length: ContentLength as number, etag: ETag };
  };
  try {
    const first = await ask(0, undefined, signal);
    const explain = (error: unknown) => s3.explain(error, 'get');
    return new S3Body({ key, first, limits: s3.limits, outage: s3.outage, resume: ask, explain, signal });
  } catch (error) {
    signal?.throwIfAborted();
    if (statusOf(error) === 404 && !isNoBucket(error)) {
      throw new LifeboatError('OBJECT_MISSING', `${key} is not in the repository`, { cause: error });
    }
    throw s3.explain(error, 'get', signal);
  }
}

/** Returns true if the error means that the bucket does not exist. */
export function isNoBucket(error: unknown): boolean {
  return error instanceof Error && error.name === 'NoSuchBucket';
}
