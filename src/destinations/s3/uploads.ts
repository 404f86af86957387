import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Stored, SweepOptions } from '../destination.ts';
import type { S3Connection } from './client.ts';
import { incompleteListing } from './errors.ts';
import { statusOf } from './retry.ts';

/** An upload in parts that may have begun. */
interface Recorded {
  file: string;
  key: string;
}

/** An upload that can be resumed. */
export interface Begun extends Recorded {
  /** the server's id of the upload */
  upload: string;
  /** see {@link S3Put} */
  mark: string;
  /** the final content of the object */
  whole: Stored;
}

/** An interrupted upload waits this long to be resumed, milliseconds: its parts cost money. */
const RESUMED_WITHIN_MS = 2 * 24 * 60 * 60_000;

/**
 * Records the unfinished uploads in parts that Lifeboat has begun, one file each in a directory of their own. Helpers
 * write there too. S3 does not say who began an upload, but keys contain random ids, so an upload to a recorded key is
 * Lifeboat's own.
 */
export class UploadLog {
  private readonly directory: string;
  /** number of uploads of this process, by directory and key; several logs may have the same directory */
  private static readonly running = new Map<string, number>();

  constructor(directory: string) {
    this.directory = directory;
  }

  /**
   * Records that an upload to `key` is about to begin. The record is on disk when this returns.
   *
   * @throws SPOOL_FULL
   */
  record(key: string): Recorded {
    return { file: this.write(key), key };
  }

  /** Records how to resume an upload that has begun. @throws as {@link record} */
  async note(record: Recorded, begun: Omit<Begun, 'file'>): Promise<Begun> {
    const { key, upload, mark, whole } = begun;
    const noted = { key, upload, mark, whole: { size: whole.size, sha256: whole.sha256 } };
    const file = this.write(noted);
    await this.forget(record);
    return { file, ...noted };
  }

  /** Calls `upload`. Until it ends, uploads to `key` are not left over. */
  async during<T>(key: string, upload: () => Promise<T>): Promise<T> {
    const { running } = UploadLog;
    const name = this.nameOf(key);
    running.set(name, (running.get(name) ?? 0) + 1);
    try {
      return await upload();
    } finally {
      const left = (running.get(name) ?? 1) - 1;
      if (left > 0) running.set(name, left);
      else running.delete(name);
    }
  }

  /** Returns an interrupted upload of the same bytes. */
  async find(key: string, { size, sha256 }: Stored): Promise<Begun | undefined> {
    const all = (await this.recorded()).filter((one): one is Begun => 'whole' in one && one.key === key);
    return all.find(({ whole }) => whole.size === size && whole.sha256 === sha256);
  }

  /**
   * Returns the uploads to abort: all except those of this process, those that may be resumed, and those that another
   * process may have begun. `key` is empty if a crash truncated the record.
   */
  async left(recent?: SweepOptions['recent']): Promise<Recorded[]> {
    const all = await this.recorded();
    const now = Date.now();
    const kept = new Set<string>();
    for (const one of all) {
      const age = now - (await writtenAt(one.file));
      // A record without a key may be one that another process is writing.
      const isBelow = recent && (one.key === '' || one.key.startsWith(recent.prefix));
      const isRecent = isBelow && age < recent.olderThanMs;
      const isRunning = UploadLog.running.has(this.nameOf(one.key));
      if (isRunning || isRecent || ('whole' in one && age < RESUMED_WITHIN_MS)) kept.add(one.key);
    }
    return all.filter(({ key }) => !kept.has(key));
  }

  async forget({ file }: Pick<Recorded, 'file'>): Promise<void> {
    await rm(file, { force: true });
  }

  private nameOf(key: string): string {
    return `${this.directory} ${key}`;
  }

  private async recorded(): Promise<(Recorded | Begun)[]> {
    const names = await readdir(this.directory).catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return [];
      throw error;
    });
    const all: (Recorded | Begun)[] = [];
    for (const name of names) {
      const file = join(this.directory, name);
      const text = await readFile(file, 'utf8').catch(() => '');
      // A crash truncated the record, so the upload it announces never began.
      const value = text.endsWith('\n') ? (JSON.parse(text) as string | Omit<Begun, 'file'>) : '';
      all.push(typeof value === 'string' ? { file, key: value } : { file, ...value });
    }
    return all;
  }

  private write(value: unknown): string {
    const file = join(this.directory, randomBytes(8).toString('hex'));
    try {
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      const fd = openSync(file, 'wx', 0o600);
      try {
        writeSync(fd, `${JSON.stringify(value)}\n`);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    } catch (cause) {
      if (!hasErrno(cause, 'ENOSPC', 'EDQUOT')) throw cause;
      rmSync(file, { force: true });
      throw new LifeboatError('SPOOL_FULL', 'the spool has no space left for the record of an upload', {
        cause,
        hint: 'Free space on the disk of the volume mounted at /spool, or mount a larger one there.',
      });
    }
    return file;
  }
}

/** Returns when a file was last written, in milliseconds since 1970; 0 if it is gone. */
async function writtenAt(file: string): Promise<number> {
  return stat(file).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  );
}

/** A part in transit while its upload is aborted can revive the upload, so the sweep checks again. */
const ROUNDS = 3;

/**
 * Aborts recorded uploads below `prefix` that nobody is working on and that will not be resumed. Leaves all other
 * uploads alone. Returns the number of aborted uploads.
 */
export async function sweepUploads(
  s3: S3Connection,
  log: UploadLog,
  prefix: string,
  { recent, signal }: Pick<SweepOptions, 'recent' | 'signal'>,
): Promise<number> {
  const recorded = (await log.left(recent)).filter(({ key }) => key === '' || key.startsWith(prefix));
  if (recorded.length === 0) return 0;
  const own = new Set(recorded.map(({ key }) => key));
  const swept = await abandonUploads(s3, prefix, (key) => own.has(key), signal);
  for (const one of recorded) await log.forget(one);
  return swept;
}

/** Aborts all uploads below `prefix` (any beginning of keys) whose key is `own`. Returns their number. */
export async function abandonUploads(
  s3: S3Connection,
  prefix: string,
  own: (key: string) => boolean,
  signal?: AbortSignal,
): Promise<number> {
  const swept = new Set<string>();
  for (let round = 1; round <= ROUNDS; round++) {
    const found: { key: string; id: string }[] = [];
    for await (const upload of uploadsBelow(s3, prefix, signal)) if (own(upload.key)) found.push(upload);
    if (found.length === 0) break;
    for (const { key, id } of found) {
      swept.add(id);
      await abandon(s3, key, id, signal);
    }
  }
  return swept.size;
}

async function abandon(s3: S3Connection, key: string, id: string, signal?: AbortSignal): Promise<void> {
  const request = { Bucket: s3.bucket, Key: s3.prefix + key, UploadId: id };
  try {
    await s3.send((sdk, client, options) => client.send(new sdk.AbortMultipartUploadCommand(request), options), {
      signal,
    });
  } catch (error) {
    if (statusOf(error) !== 404) throw s3.explain(error, 'abort', signal);
  }
}

/** Lists uploads in parts that are neither complete nor aborted. */
async function* uploadsBelow(
  s3: S3Connection,
  prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<{ key: string; id: string }> {
  const whole = s3.prefix + prefix;
  let from: { KeyMarker?: string; UploadIdMarker?: string } = {};
  for (;;) {
    const request = { Bucket: s3.bucket, Prefix: whole, ...from };
    const page = await s3
      .send((sdk, client, options) => client.send(new sdk.ListMultipartUploadsCommand(request), options), { signal })
      .catch((error: unknown) => {
        throw s3.explain(error, 'uploads', signal);
      });
    for (const { Key, UploadId } of page.Uploads ?? []) {
      if (Key?.startsWith(whole) && UploadId) yield { key: Key.slice(s3.prefix.length), id: UploadId };
    }
    if (!page.IsTruncated) return;
    if (!page.NextKeyMarker) throw incompleteListing(s3.name);
    from = {
      KeyMarker: page.NextKeyMarker,
      ...(page.NextUploadIdMarker ? { UploadIdMarker: page.NextUploadIdMarker } : {}),
    };
  }
}
