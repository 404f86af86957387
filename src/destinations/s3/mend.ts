import type { StorageClass } from '@aws-sdk/client-s3';
import { type ErrorInfo, errorInfo, LifeboatError } from '../../base/errors.ts';
import type { S3Connection } from './client.ts';
import { statusOf } from './retry.ts';
import { type Kept, type Mend, mendOf, type Version, versionsByKey } from './versions.ts';

/** The largest that can be copied in one request, and the parts of larger ones, bytes. */
const COPY_WHOLE = 5 * 1024 ** 3;
const COPY_PART = 1024 ** 3;
/** Names of what Lifeboat stores. */
const OURS =
  /^(?:lifeboat\.json|[^/]+\/(?:snapshots|packs|tombstones|pins|leases|unreferenced|restores|drills|wal)\/.+)$/;
const AT_ONCE = 8;
const COPY_MS = 10 * 60_000;

/** What was done, or would be, about all objects of a repository. */
export interface Mended {
  /** as they were */
  same: number;
  /** deleted since, and shown again */
  undeleted: number;
  /** overwritten since, and copied back */
  copied: number;
  /** stored since, and hidden: what they hold stays as a version */
  hidden: number;
  /** bytes of what was shown again or copied back */
  bytes: number;
  failed: { key: string; error: ErrorInfo }[];
}

/**
 * Makes all that lies below the prefix what it was at `at` (milliseconds since 1970); with `dryRun` only counts. What is there now is not lost: it stays
 * among the versions. What cannot be brought back is told, and the rest is.
 *
 * @throws DEST_UNWRITABLE when versions may not be listed; the signal's reason
 */
export async function mend(
  s3: S3Connection,
  {
    at,
    dryRun,
    signal,
    wholeCopy = COPY_WHOLE,
  }: { at: number; dryRun: boolean; signal: AbortSignal; wholeCopy?: number },
): Promise<Mended> {
  const result: Mended = { same: 0, undeleted: 0, copied: 0, hidden: 0, bytes: 0, failed: [] };
  const busy = new Set<Promise<void>>();
  const one = async (versions: readonly Version[]) => {
    const key = (versions[0]?.key ?? '').slice(s3.prefix.length);
    const wanted = mendOf(versions, at);
    // What others have stored there since is in nobody's way.
    const todo: Mend = wanted.act === 'hide' && !OURS.test(key) ? { act: 'none' } : wanted;
    try {
      const done = dryRun ? todo.act : await apply(s3, todo, wholeCopy, signal);
      if (done === 'none') result.same += versions.some(({ latest, content }) => latest && content) ? 1 : 0;
      else if (done === 'hide') result.hidden += 1;
      else result[done === 'copy' ? 'copied' : 'undeleted'] += 1;
      if ('was' in todo) result.bytes += todo.was.content.size;
    } catch (error) {
      result.failed.push({ key, error: errorInfo(s3.explain(error, 'mend', signal)) });
    }
  };
  for await (const versions of versionsByKey(s3)) {
    signal.throwIfAborted();
    const task: Promise<void> = one(versions).finally(() => busy.delete(task));
    busy.add(task);
    if (busy.size >= AT_ONCE) await Promise.race(busy);
  }
  await Promise.all(busy);
  signal.throwIfAborted();
  return result;
}

async function apply(s3: S3Connection, todo: Mend, wholeCopy: number, signal: AbortSignal): Promise<Mend['act']> {
  const { bucket: Bucket } = s3;
  if (todo.act === 'none') return 'none';
  if (todo.act === 'hide') {
    const request = { Bucket, Key: todo.latest.key };
    await s3.send((sdk, client, options) => client.send(new sdk.DeleteObjectCommand(request), options), { signal });
    return 'hide';
  }
  if (todo.act === 'unmark' && (await unmark(s3, todo.markers, signal))) {
    await verify(s3, todo.was, signal);
    return 'unmark';
  }
  if (todo.was.content.size <= wholeCopy) await copyWhole(s3, todo.was, signal);
  else await copyInParts(s3, todo.was, Math.min(COPY_PART, wholeCopy), signal);
  await verify(s3, todo.was, signal);
  return 'copy';
}

/** Resolves to false where this key may not remove markers: then the version has to be copied. */
async function unmark(s3: S3Connection, markers: readonly Version[], signal: AbortSignal): Promise<boolean> {
  for (const { key: Key, id: VersionId } of markers) {
    const request = { Bucket: s3.bucket, Key, VersionId };
    try {
      await s3.send((sdk, client, options) => client.send(new sdk.DeleteObjectCommand(request), options), { signal });
    } catch (error) {
      if (statusOf(error) === 403) return false;
      throw error;
    }
  }
  return true;
}

function copyOf(s3: S3Connection, { key, id, content: { storageClass } }: Kept) {
  const source = [s3.bucket, ...key.split('/')].map(encodeURIComponent).join('/');
  const own = s3.storageClass ?? storageClass;
  return {
    target: { Bucket: s3.bucket, Key: key },
    CopySource: `${source}?versionId=${encodeURIComponent(id)}`,
    StorageClass: own === undefined ? {} : { StorageClass: own as StorageClass },
  };
}

async function copyWhole(s3: S3Connection, version: Kept, signal: AbortSignal): Promise<void> {
  const { target, CopySource, StorageClass } = copyOf(s3, version);
  await s3.send(
    (sdk, client, options) =>
      client.send(new sdk.CopyObjectCommand({ ...target, CopySource, ...StorageClass }), options),
    { signal, limitMs: COPY_MS },
  );
}

async function copyInParts(s3: S3Connection, version: Kept, partSize: number, signal: AbortSignal): Promise<void> {
  const { target, CopySource, StorageClass } = copyOf(s3, version);
  const { size } = version.content;
  const { UploadId } = await s3.send(
    (sdk, client, options) =>
      client.send(new sdk.CreateMultipartUploadCommand({ ...target, ...StorageClass }), options),
    { signal },
  );
  const upload = { ...target, UploadId };
  try {
    const Parts: { PartNumber: number; ETag: string | undefined }[] = [];
    for (let at = 0; at < size; at += partSize) {
      const PartNumber = Parts.length + 1;
      const CopySourceRange = `bytes=${at}-${Math.min(at + partSize, size) - 1}`;
      const { CopyPartResult } = await s3.send(
        (sdk, client, options) =>
          client.send(new sdk.UploadPartCopyCommand({ ...upload, CopySource, PartNumber, CopySourceRange }), options),
        { signal, limitMs: COPY_MS },
      );
      Parts.push({ PartNumber, ETag: CopyPartResult?.ETag });
    }
    await s3.send(
      (sdk, client, options) =>
        client.send(new sdk.CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } }), options),
      { signal, limitMs: COPY_MS },
    );
  } catch (error) {
    await s3
      .send((sdk, client, options) => client.send(new sdk.AbortMultipartUploadCommand(upload), options))
      .catch(() => undefined);
    throw error;
  }
}

/** A look at what is read now. */
async function verify(s3: S3Connection, { key, content }: Kept, signal: AbortSignal): Promise<void> {
  const request = { Bucket: s3.bucket, Key: key };
  const { ContentLength } = await s3.send(
    (sdk, client, options) => client.send(new sdk.HeadObjectCommand(request), options),
    { signal },
  );
  if (ContentLength === content.size) return;
  throw new LifeboatError('DEST_DAMAGED', `it has ${ContentLength} B instead of ${content.size}`);
}
