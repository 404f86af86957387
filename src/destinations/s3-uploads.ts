import { appendFileSync, closeSync, fdatasyncSync, mkdirSync, openSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { hasErrno } from '../errors.ts';
import type { S3Connection } from './s3-client.ts';
import { statusOf } from './s3-retry.ts';

/**
 * The keys of uploads in parts that Lifeboat began, in a file of its own, each written before the upload is begun. S3 tells
 * nobody who began an upload, but keys hold random ids: an upload to a key that stands here is Lifeboat's own.
 */
export class UploadLog {
  private readonly file: string;

  constructor(file: string) {
    this.file = file;
  }

  /** Records a key; it is on the disk when this returns. Helpers write to the same file. */
  record(key: string): void {
    mkdirSync(dirname(this.file), { recursive: true, mode: 0o700 });
    const fd = openSync(this.file, 'a', 0o600);
    try {
      // The line break before it keeps it apart from a line that a crash cut off.
      appendFileSync(fd, `\n${JSON.stringify(key)}\n`);
      fdatasyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  async keys(): Promise<Set<string>> {
    const text = await readFile(this.file, 'utf8').catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return '';
      throw error;
    });
    const lines = text.split('\n').filter((line) => /^".*"$/.test(line));
    return new Set(lines.flatMap((line) => parsed(line)));
  }

  /** Only for when nobody writes: at the end of a run, or before one. */
  async replace(keys: Iterable<string>): Promise<void> {
    const lines = [...keys].map((key) => `${JSON.stringify(key)}\n`).join('');
    if (lines === '' && (await this.keys()).size === 0) return;
    await writeFile(`${this.file}.new`, lines, { mode: 0o600 });
    await rename(`${this.file}.new`, this.file);
  }
}

function parsed(line: string): string[] {
  try {
    return [String(JSON.parse(line))];
  } catch {
    return [];
  }
}

/** Parts that were on their way when an upload is given up can come to life after it: it is looked for again. */
const ROUNDS = 3;

/**
 * Gives up uploads that were begun below `prefix` and recorded, and that nobody is at work on any more. Others, whoever
 * began them, stay. Returns how many.
 */
export async function sweepUploads(s3: S3Connection, log: UploadLog, prefix: string): Promise<number> {
  const recorded = await log.keys();
  const own = new Set([...recorded].filter((key) => key.startsWith(prefix)));
  if (own.size === 0) return 0;
  const swept = new Set<string>();
  for (let round = 1; round <= ROUNDS; round++) {
    const found: { key: string; id: string }[] = [];
    for await (const upload of uploadsBelow(s3, prefix)) if (own.has(upload.key)) found.push(upload);
    if (found.length === 0) break;
    for (const { key, id } of found) {
      swept.add(id);
      await abandon(s3, key, id);
    }
  }
  await log.replace([...recorded].filter((key) => !own.has(key)));
  return swept.size;
}

async function abandon(s3: S3Connection, key: string, id: string): Promise<void> {
  const request = { Bucket: s3.bucket, Key: s3.prefix + key, UploadId: id };
  try {
    await s3.send((sdk, client, options) => client.send(new sdk.AbortMultipartUploadCommand(request), options));
  } catch (error) {
    if (statusOf(error) !== 404) throw s3.explain(error, 'abort');
  }
}

/** Uploads in parts that are neither complete nor given up. */
async function* uploadsBelow(s3: S3Connection, prefix: string): AsyncGenerator<{ key: string; id: string }> {
  const whole = s3.prefix + prefix;
  let from: { KeyMarker?: string; UploadIdMarker?: string } = {};
  for (;;) {
    const request = { Bucket: s3.bucket, Prefix: whole, ...from };
    const page = await s3
      .send((sdk, client, options) => client.send(new sdk.ListMultipartUploadsCommand(request), options))
      .catch((error: unknown) => {
        throw s3.explain(error, 'uploads');
      });
    for (const { Key, UploadId } of page.Uploads ?? []) {
      if (Key?.startsWith(whole) && UploadId) yield { key: Key.slice(s3.prefix.length), id: UploadId };
    }
    if (!page.IsTruncated || !page.NextKeyMarker) return;
    from = {
      KeyMarker: page.NextKeyMarker,
      ...(page.NextUploadIdMarker ? { UploadIdMarker: page.NextUploadIdMarker } : {}),
    };
  }
}
