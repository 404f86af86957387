import type { CompletedPart } from '@aws-sdk/client-s3';
import { LifeboatError } from '../../base/errors.ts';
import type { Stored } from '../destination.ts';
import type { S3Connection } from './client.ts';
import { etagOf, type S3Put } from './objects.ts';
import { MAX_PARTS, type PartReader, type PartShare, partSize } from './parts.ts';
import { statusOf } from './retry.ts';
import { abandonUploads, type Begun, type UploadLog } from './uploads.ts';

/** An object to upload in parts. */
interface Multipart {
  s3: S3Connection;
  log: UploadLog;
  put: S3Put;
  key: string;
  /** an interrupted upload of the same bytes */
  begun: Begun | undefined;
  signal: AbortSignal | undefined;
}

/** The content of the object. */
interface Content {
  reader: PartReader;
  buffers: PartShare;
  /** the first part, already full */
  first: Buffer;
  expectedSize: number | undefined;
  /** the final content, if it is known: then an interrupted upload can be resumed */
  whole: Stored | undefined;
}

/**
 * Uploads an object in parts. With `whole`, an interrupted upload stays on the server, and the next call sends only the
 * missing parts. Existing parts are compared by MD5 with the bytes to send.
 */
export function putInParts(object: Multipart, content: Content): Promise<void> {
  return object.log.during(object.key, () => upload(object, content));
}

async function upload(object: Multipart, content: Content): Promise<void> {
  const { s3, log, put, key, begun } = object;
  const { whole } = content;
  const there = begun && (await partsOf(object, begun.upload));
  const record = begun && there ? begun : log.record(key);
  // The upload is gone, or cannot be listed. An upload that cannot be resumed is not left behind.
  if (begun && !there && (await put.abandon(begun.upload))) await log.forget(begun);
  const { upload, attempts } = begun && there ? { upload: begun.upload, attempts: 1 } : await put.begin();
  const noted =
    whole && !there && attempts === 1 ? await log.note(record, { key, upload, mark: put.mark, whole }) : record;
  const sending = new Set<Promise<void>>();
  let gone = true;
  try {
    const parts = await sendParts(put, { upload, there: there ?? new Map() }, content, sending);
    await put.complete(upload, parts, content.reader.size);
  } catch (error) {
    // A part that arrives after the upload was aborted would stay, and cost money.
    await Promise.allSettled(sending);
    put.toBeResumed = whole !== undefined && attempts === 1 && put.isCutOff(error);
    gone = !put.toBeResumed && (await put.abandon(upload));
    throw error;
  } finally {
    // If a response was lost, an upload with an unknown id may exist.
    const unknown = attempts > 1 ? abandonUploads(s3, key, (each) => each === key) : Promise.resolve();
    await unknown.catch(() => {
      gone = false;
    });
    if (gone) await log.forget(noted);
  }
}

async function sendParts(
  put: S3Put,
  { upload, there }: { upload: string; there: ReadonlyMap<number, string> },
  { reader, buffers, first, expectedSize }: Content,
  sending: Set<Promise<void>>,
): Promise<CompletedPart[]> {
  const parts: CompletedPart[] = [];
  const failures: unknown[] = [];
  const check = () => {
    if (failures.length > 0) throw failures[0];
  };
  const send = (number: number, part: Buffer, size: number) => {
    const ETag = there.get(number + 1);
    if (ETag !== undefined && ETag === etagOf(part.subarray(0, size))) {
      parts[number] = { PartNumber: number + 1, ETag };
      return buffers.give(part);
    }
    const sent: Promise<void> = put
      .part(upload, number + 1, part.subarray(0, size))
      .then(
        (done) => {
          parts[number] = done;
          buffers.give(part);
        },
        (error: unknown) => {
          failures.push(error);
          buffers.lose(part);
        },
      )
      .then(() => void sending.delete(sent));
    sending.add(sent);
  };
  send(0, first, first.length);
  for (let number = 1, last = false; !last; number++) {
    const size = partSize(number, expectedSize);
    const part = await buffers.take(size);
    check();
    const filled = await reader.fill(part);
    check();
    last = filled < size;
    if (filled > 0 && number >= MAX_PARTS)
      throw new LifeboatError('DEST_UNWRITABLE', 'an object is larger than S3 allows');
    if (filled > 0) send(number, part, filled);
  }
  await Promise.all(sending);
  check();
  return parts;
}

/**
 * Returns the stored parts of an upload: their ETags by part number, from 1. Returns undefined if the upload is gone.
 */
async function partsOf({ s3, key, signal }: Multipart, upload: string): Promise<Map<number, string> | undefined> {
  const target = { Bucket: s3.bucket, Key: s3.prefix + key };
  const found = new Map<number, string>();
  let marker: string | undefined;
  do {
    const request = {
      ...target,
      UploadId: upload,
      ...(marker === undefined ? {} : { PartNumberMarker: marker }),
    };
    try {
      const {
        Parts = [],
        IsTruncated,
        NextPartNumberMarker,
      } = await s3.send((sdk, client, options) => client.send(new sdk.ListPartsCommand(request), options), {
        signal: signal,
      });
      for (const { PartNumber, ETag } of Parts) if (PartNumber && ETag) found.set(PartNumber, ETag);
      // Parts that are not listed are sent again.
      marker = IsTruncated ? NextPartNumberMarker : undefined;
    } catch (error) {
      const status = statusOf(error);
      // The upload is gone, or the key may not list parts. A new upload begins.
      if (status === 404 || status === 403) return undefined;
      throw error;
    }
  } while (marker !== undefined);
  return found;
}
