import type { Readable } from 'node:stream';
import type { LifeboatError } from '../base/errors.ts';

/** The listing entry of a stored object. The parts of `key` are separated by `/`, and it never starts with one. */
export interface ObjectInfo {
  key: string;
  /** bytes; undefined if the object exists but cannot be inspected now */
  size: number | undefined;
  /** why it cannot be inspected: DEST_UNREACHABLE */
  unread?: LifeboatError;
  /** changes whenever the object is written again; absent: the destination has no such value */
  version?: string;
}

/** Proof that an object is stored whole: its content, as read back. */
export interface Stored {
  /** bytes */
  size: number;
  /** hex SHA-256 of the stored bytes */
  sha256: string;
}

/** Hints for a failure of a destination: one for a directory, and one for a bucket, which has no disk. */
export interface HintByKind {
  directory: string;
  bucket: string;
}

/** Returns the hint that is true for a destination with this display name. */
export function hintFor({ name }: { name: string }, { directory, bucket }: HintByKind): string {
  return name.startsWith('s3://') ? bucket : directory;
}

/** The way to get deleted or overwritten objects back. */
export const UNDELETE_HINT =
  'If the bucket keeps versions, `lifeboat bucket undelete --before TIME` restores what was deleted since that time.';

/** Part of an object, in bytes: `start` inclusive, `end` exclusive. */
export interface ByteRange {
  start: number;
  end: number;
}

/** Options of {@link Destination.put}. */
export interface PutOptions {
  signal?: AbortSignal;
  /** the approximate size in bytes, if it is known; only a hint */
  expectedSize?: number;
  /** Leaves whatever a failed put may have stored, because other objects may refer to it by then. */
  keepOnFailure?: boolean;
  /** the final content, if it is known: the upload may resume where a failed put of the same bytes stopped */
  whole?: Stored;
  /** called while the stored object is read back: this takes a while, and no bytes of the body flow meanwhile */
  alive?: () => void;
  /**
   * The key has a random part that was made for this object, so nobody else stores an object of this name. The
   * destination need not look for one first, nor read back what a response with the hash of the content proves.
   */
  newKey?: boolean;
  /**
   * The caller reads the object back itself, and finds out whether it is its own. The destination need not read it back
   * if a response with the hash of the content proves that it is stored.
   */
  readBackByCaller?: boolean;
}

/** Options of {@link Destination.get}. */
interface GetOptions {
  /** absent: the whole object */
  range?: ByteRange;
  signal?: AbortSignal;
  /**
   * Reads what the disk stores, and not what the system remembers of it, where that is possible. Only for whole objects
   * of a directory: a bucket ignores it.
   */
  fromDisk?: boolean;
}

/** Options of a listing. */
export interface ListOptions {
  signal?: AbortSignal;
  /** the objects as they are now, also from a view that remembers an earlier listing */
  fresh?: boolean;
  /** only objects whose keys follow this one */
  after?: string;
}

/**
 * Stores objects: a directory, or a prefix in an S3 bucket. The interface has five members. Packs, manifests and
 * retention all build on them. An implementation guarantees:
 *
 * - `put` resolves only after the object is whole and durable under its final name, and after its size (and its hash,
 *   where possible) has been read back and matches the data sent. If `put` rejects, nothing is visible under the name.
 * - `put` never replaces an object: an existing key rejects with DEST_EXISTS.
 * - `get` of a missing key rejects with OBJECT_MISSING before it returns any bytes.
 * - `list` yields only whole objects, in the byte order of their keys.
 * - `delete` of a missing key resolves. A protected object (locked, or the credentials are append-only) rejects with
 *   DELETE_REFUSED.
 *
 * Failures are LifeboatErrors: DEST_FULL, DEST_UNWRITABLE, DEST_UNREACHABLE, DEST_DAMAGED, OBJECT_MISSING,
 * OBJECT_ARCHIVED.
 */
export interface Destination {
  /** Display name without secrets: `/backups`, `s3://bucket/prefix`. */
  readonly name: string;
  /** Tells the place from others with the same name, which are on other servers; absent: the name is enough. */
  readonly place?: string;
  put(key: string, body: Readable, options?: PutOptions): Promise<Stored>;
  get(key: string, options?: GetOptions): Promise<Readable>;
  /** `prefix` is empty or ends with `/`, so `app/` never matches `app-staging/`. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>;
  delete(key: string, options?: { signal?: AbortSignal }): Promise<void>;
}

/** Returns a text that is different for each place. */
export function placeOf({ name, place }: Pick<Destination, 'name' | 'place'>): string {
  return place ?? name;
}

/** A destination that deletes many objects in few requests. */
export interface BulkDeletingDestination extends Destination {
  /**
   * Deletes objects, as `delete` does for each. Returns the keys of those that the destination does not let Lifeboat
   * delete. After several refusals, it tries no further ones.
   *
   * @param options `before` is called before each request; if it rejects, no further request is sent
   */
  deleteMany(keys: readonly string[], options?: DeleteManyOptions): Promise<string[]>;
}

/** Options of {@link BulkDeletingDestination.deleteMany}. */
export interface DeleteManyOptions {
  signal?: AbortSignal | undefined;
  before?: () => Promise<void>;
}

/** Returns true if a destination can delete many objects in few requests. */
export function deletesInBulk(destination: Destination): destination is BulkDeletingDestination {
  return 'deleteMany' in destination;
}

/**
 * A destination that can replace an object. Only leases are ever replaced, and only if the credentials may not delete
 * the old ones.
 */
export interface ReplacingDestination extends Destination {
  /**
   * Replaces an object if it still has a version that a listing returned. Resolves to false if it has another one by
   * now, or is gone. Not every server checks the version: use {@link Destination.put} if this one does not.
   */
  replace(key: string, content: Buffer, version: string, signal?: AbortSignal): Promise<boolean>;
}

/** Returns true if a destination can replace objects. */
export function canReplace(destination: Destination): destination is ReplacingDestination {
  return 'replace' in destination;
}

/** A destination that can lock stored objects for a time. Nobody can permanently delete a locked object. */
export interface LockingDestination extends SweepingDestination {
  /**
   * Extends locks so that each object stays locked for at least as long as an object stored now. Returns the number of
   * extended locks: 0 if the destination does not lock. Calls `alive` for each object.
   *
   * @throws DEST_UNWRITABLE if the credentials do not allow it
   */
  prolongLocks(keys: readonly string[], now: Date, signal?: AbortSignal, alive?: () => void): Promise<number>;
}

/** Returns true if a destination can lock objects. */
export function isLocking(destination: Destination): destination is LockingDestination {
  return 'prolongLocks' in destination;
}

/** Options of {@link SweepingDestination.sweepTemporary}. */
export interface SweepOptions {
  prefix?: string;
  /** what is younger stays, milliseconds */
  olderThanMs?: number;
  /** a prefix below which other processes may be storing something: what is younger than this stays, milliseconds */
  recent?: { prefix: string; olderThanMs: number };
  signal?: AbortSignal;
}

/** A destination that can have leftovers, which `list` does not return. */
export interface SweepingDestination extends Destination {
  /**
   * Removes what interrupted runs left unfinished below `prefix` (default: everywhere). Returns how many items it
   * removed. Leaves what this process is storing. Callers make sure that no other process stores anything there, except
   * below `recent`.
   */
  sweepTemporary(options?: SweepOptions): Promise<number>;
}

const uncertain = new WeakSet<Error>();

/** Marks the error of a put whose object may exist anyway, or appear later. Returns the error. */
export function markUncertain(error: unknown): unknown {
  if (error instanceof Error) uncertain.add(error);
  return error;
}

/** Returns true if {@link markUncertain} marked the error or one of its causes. */
export function isUncertain(error: unknown): boolean {
  return error instanceof Error && (uncertain.has(error) || isUncertain(error.cause));
}
