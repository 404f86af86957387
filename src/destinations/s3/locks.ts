import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { HeadObjectCommandOutput, ObjectLockConfiguration, ObjectLockRetentionMode } from '@aws-sdk/client-s3';
import { LifeboatError } from '../../base/errors.ts';
import type { S3Connection } from './client.ts';
import { PROLONGED } from './policy.ts';
import { statusOf } from './retry.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const AT_ONCE = 8;

/** The lock that a bucket gives newly stored objects, and its length. */
export interface DefaultLock {
  mode: ObjectLockRetentionMode;
  days: number;
}

/** Each server answers differently if it does not support locks, or none is configured. */
const NO_LOCK = /NotImplemented|NotSupported|Unsupported|MethodNotAllowed|ObjectLock|InvalidBucketState|InvalidRequest/;

/** Returns the lock that a bucket with this configuration puts on new objects; undefined if there is none. */
export function defaultLock(configuration: ObjectLockConfiguration | undefined): DefaultLock | undefined {
  const { Mode, Days, Years } = configuration?.Rule?.DefaultRetention ?? {};
  const days = Days ?? (Years === undefined ? undefined : Years * 365);
  return Mode && days !== undefined ? { mode: Mode, days } : undefined;
}

/**
 * Extends the locks of objects that are needed for longer than their lock lasts. A file remembers the end of each lock,
 * so a run whose locks last long enough sends no request per object.
 */
export class S3Locks {
  private readonly s3: S3Connection;
  private readonly memory: Memory;

  /** @param directory on the agent's own disk; created when it is needed */
  constructor(s3: S3Connection, directory: string) {
    this.s3 = s3;
    this.memory = Memory.of(directory, `${createHash('sha256').update(s3.name).digest('hex').slice(0, 16)}.json`);
  }

  /**
   * Extends locks so that each object stays locked for at least as long as an object stored now. Returns the number of
   * extended locks: 0 if the bucket does not lock. Calls `alive` for each object.
   *
   * @throws DEST_UNWRITABLE if the key may not extend locks, or may not read them although there may be some;
   * OBJECT_MISSING; the errors of a request; the signal's reason
   */
  async prolong(keys: readonly string[], now: number, signal?: AbortSignal, alive?: () => void): Promise<number> {
    const lock = await this.bucketLock(keys, signal);
    if (!lock) return 0;
    const { known, learn } = await this.memory.read();
    const needed = now + lock.days * DAY_MS;
    const until = new Date(Math.ceil(now + lock.days * PROLONGED * DAY_MS));
    const seen = new Map<string, number>();
    let prolonged = 0;
    const queue = [...new Set(keys)];
    const work = async () => {
      for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
        signal?.throwIfAborted();
        if ((known.get(key) ?? 0) < needed) {
          let locked = await this.lockedUntil(key, signal);
          if (locked < needed) {
            await this.lock(key, lock.mode, until, signal);
            locked = until.getTime();
            prolonged += 1;
          }
          seen.set(key, locked);
        }
        alive?.();
      }
    };
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, work));
    } finally {
      queue.length = 0;
      await learn(seen, now);
    }
    return prolonged;
  }

  /**
   * Forgets the locks of objects that are about to be stored or deleted: another version of an object has another lock.
   * Call it for objects whose names may have been used before.
   */
  async forget(keys: readonly string[]): Promise<void> {
    await this.memory.forget(keys);
  }

  private async bucketLock(keys: readonly string[], signal?: AbortSignal): Promise<DefaultLock | undefined> {
    const request = { Bucket: this.s3.bucket };
    try {
      const answer = await this.s3.send(
        (sdk, client, options) => client.send(new sdk.GetObjectLockConfigurationCommand(request), options),
        { signal },
      );
      return defaultLock(answer.ObjectLockConfiguration);
    } catch (error) {
      const status = statusOf(error);
      if (status === 404 || status === 405 || status === 501) return undefined;
      if ((status === 400 || status === 409) && error instanceof Error && NO_LOCK.test(error.name)) return undefined;
      // Most keys may not read the configuration. That is harmless if the bucket does not lock.
      if (status === 403 && !(await this.mayLock(keys, signal))) return undefined;
      throw this.s3.explain(error, 'locks', signal);
    }
  }

  /**
   * Returns true if one of the first objects (of the repository and the first source) is locked, or if they cannot be
   * inspected.
   */
  private async mayLock(keys: readonly string[], signal?: AbortSignal): Promise<boolean> {
    try {
      for (const key of keys.slice(0, 3)) if ((await this.head(key, signal)).ObjectLockMode) return true;
      return false;
    } catch {
      signal?.throwIfAborted();
      return true;
    }
  }

  private async lockedUntil(key: string, signal?: AbortSignal): Promise<number> {
    return (await this.head(key, signal)).ObjectLockRetainUntilDate?.getTime() ?? 0;
  }

  private async head(key: string, signal?: AbortSignal): Promise<HeadObjectCommandOutput> {
    const request = { Bucket: this.s3.bucket, Key: this.s3.prefix + key };
    try {
      return await this.s3.send((sdk, client, options) => client.send(new sdk.HeadObjectCommand(request), options), {
        signal,
      });
    } catch (error) {
      if (statusOf(error) !== 404) throw this.s3.explain(error, 'get', signal);
      throw new LifeboatError('OBJECT_MISSING', `${key} is not in the repository`, { cause: error });
    }
  }

  private async lock(key: string, Mode: ObjectLockRetentionMode, until: Date, signal?: AbortSignal): Promise<void> {
    const request = { Bucket: this.s3.bucket, Key: this.s3.prefix + key };
    try {
      await this.s3.send(
        (sdk, client, options) =>
          client.send(
            new sdk.PutObjectRetentionCommand({ ...request, Retention: { Mode, RetainUntilDate: until } }),
            options,
          ),
        { signal },
      );
    } catch (error) {
      throw this.s3.explain(error, 'lock', signal);
    }
  }
}

/** The known lock ends of one bucket, kept in a file. */
class Memory {
  private static readonly all = new Map<string, Memory>();
  private readonly directory: string;
  private readonly file: string;
  /** what is read or written next waits for it: many objects are stored and deleted at the same time */
  private last: Promise<unknown> = Promise.resolve();
  /** what was forgotten since each reader began */
  private readonly forgotten = new Set<Set<string>>();

  /** Returns the memory in a file: the same one for all connections of this process. */
  static of(directory: string, name: string): Memory {
    const file = join(directory, name);
    const memory = Memory.all.get(file) ?? new Memory(directory, file);
    Memory.all.set(file, memory);
    return memory;
  }

  private constructor(directory: string, file: string) {
    this.directory = directory;
    this.file = file;
  }

  /** Returns the known ends of locks, and what adds others to them. Call it once. */
  async read(): Promise<{ known: Map<string, number>; learn(ends: Map<string, number>, now: number): Promise<void> }> {
    const since = new Set<string>();
    this.forgotten.add(since);
    const known = await this.inTurn(() => this.load());
    const learn = (ends: ReadonlyMap<string, number>, now: number) =>
      this.inTurn(async () => {
        this.forgotten.delete(since);
        const present = await this.load();
        for (const [key, end] of ends) if (!since.has(key)) present.set(key, end);
        // Keeps the entries of other sources: a snapshot of one source does not list their objects.
        await this.save(new Map([...present].filter(([, end]) => end > now)));
      });
    return { known, learn };
  }

  async forget(keys: readonly string[]): Promise<void> {
    for (const since of this.forgotten) for (const key of keys) since.add(key);
    await this.inTurn(async () => {
      const text = await readFile(this.file, 'utf8').catch(() => '');
      if (!keys.some((key) => text.includes(`${JSON.stringify(key)}:`))) return;
      const known = await this.load();
      for (const key of keys) known.delete(key);
      await this.save(known);
    });
  }

  /** @param work never rejects */
  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.last.then(work);
    this.last = done;
    return done;
  }

  private async load(): Promise<Map<string, number>> {
    try {
      return new Map(Object.entries(JSON.parse(await readFile(this.file, 'utf8')) as Record<string, number>));
    } catch {
      // Without the file, each object is checked.
      return new Map();
    }
  }

  private async save(locks: ReadonlyMap<string, number>): Promise<void> {
    try {
      await mkdir(this.directory, { recursive: true, mode: 0o700 });
      await writeFile(`${this.file}.new`, JSON.stringify(Object.fromEntries(locks)), { mode: 0o600 });
      await rename(`${this.file}.new`, this.file);
    } catch {
      // Without the file, the next run only sends more requests. A file with what is forgotten must not stay.
      await rm(this.file, { force: true }).catch(() => undefined);
    }
  }
}
