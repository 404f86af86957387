import type { StorageClass } from '@aws-sdk/client-s3';
import { type ErrorInfo, errorInfo, LifeboatError } from '../../base/errors.ts';
import type { S3Connection } from './client.ts';
import { statusOf } from './retry.ts';
import { type Kept, planUndelete, type UndeleteAction, type Version, versionsByKey } from './versions.ts';

/** the largest object that one request can copy, and the part size for larger ones, bytes */
const COPY_WHOLE = 5 * 1024 ** 3;
const COPY_PART = 1024 ** 3;
/** Matches the keys of Lifeboat's objects. */
const OURS =
  /^(?:lifeboat\.json|[^/]+\/(?:snapshots|packs|tombstones|pins|leases|unreferenced|restores|drills|wal)\/.+)$/;
const AT_ONCE = 8;
const COPY_MS = 10 * 60_000;

/** The number of objects of a repository per action, whether done or planned. */
export interface UndeleteResult {
  /** unchanged */
  same: number;
  /** deleted since, and restored */
  undeleted: number;
  /** overwritten since, and copied back */
  copied: number;
  /** stored since, and hidden: the bucket keeps their content as versions */
  hidden: number;
  /** bytes of restored and copied objects */
  bytes: number;
  failed: { key: string; error: ErrorInfo }[];
}

/**
 * Returns everything below the prefix to its state at `at` (milliseconds since 1970). With `dryRun` only counts. The
 * present objects stay as versions, so nothing is lost. An object that cannot be restored is reported, and the others
 * are restored.
 *
 * @throws DEST_UNWRITABLE if the key may not list versions; the signal's reason
 */
export async function undeleteObjects(
  s3: S3Connection,
  {
    at,
    dryRun,
    signal,
    wholeCopy = COPY_WHOLE,
  }: { at: number; dryRun: boolean; signal: AbortSignal; wholeCopy?: number },
): Promise<UndeleteResult> {
  const result: UndeleteResult = { same: 0, undeleted: 0, copied: 0, hidden: 0, bytes: 0, failed: [] };
  const busy = new Set<Promise<void>>();
  const one = async (versions: readonly Version[]) => {
    const key = (versions[0]?.key ?? '').slice(s3.prefix.length);
    const wanted = planUndelete(versions, at);
    // Objects that others have stored there since do no harm.
    const todo: UndeleteAction = wanted.act === 'hide' && !OURS.test(key) ? { act: 'none' } : wanted;
    try {
      const done = dryRun ? todo.act : await apply(s3, todo, wholeCopy, signal);
      if (done === 'none') result.same += versions.some(({ latest, content }) => latest && content) ? 1 : 0;
      else if (done === 'hide') result.hidden += 1;
      else result[done === 'copy' ? 'copied' : 'undeleted'] += 1;
      if ('was' in todo) result.bytes += todo.was.content.size;
    } catch (error) {
      result.failed.push({ key, error: errorInfo(s3.explain(error, 'undelete', signal)) });
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

async function apply(
  s3: S3Connection,
  todo: UndeleteAction,
  wholeCopy: number,
  signal: AbortSignal,
): Promise<UndeleteAction['act']> {
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

/** Resolves to false if this key may not delete markers. Then the version must be copied. */
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
  const own = s3.storageClassOf(key.slice(s3.prefix.length)) ?? storageClass;
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

/** Checks the object that is current now. */
async function verify(s3: S3Connection, { key, content }: Kept, signal: AbortSignal): Promise<void> {
  const request = { Bucket: s3.bucket, Key: key };
  const { ContentLength } = await s3.send(
    (sdk, client, options) => client.send(new sdk.HeadObjectCommand(request), options),
    { signal },
  );
  if (ContentLength === content.size) return;
  throw new LifeboatError('DEST_DAMAGED', `it has ${ContentLength} B instead of ${content.size}`);
}
