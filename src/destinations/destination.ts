import type { Readable } from 'node:stream';
import type { LifeboatError } from '../base/errors.ts';

/** What a destination knows of a stored object. `key` has `/` between its parts and never starts with one. */
export interface ObjectInfo {
  key: string;
  /** bytes; undefined for an object that is there and cannot be looked at now */
  size: number | undefined;
  /** why it cannot: DEST_UNREACHABLE */
  unread?: LifeboatError;
}

/** Proof of a whole object: what was stored, as read back. */
export interface Stored {
  /** bytes */
  size: number;
  /** hex SHA-256 of the stored bytes */
  sha256: string;
}

/** Part of an object, in bytes: `start` inclusive, `end` exclusive. */
export interface ByteRange {
  start: number;
  end: number;
}

/** How an object is put. */
export interface PutOptions {
  signal?: AbortSignal;
  /** about how large it will be, in bytes, where that is known: only a hint */
  expectedSize?: number;
  /** What a failed put may have stored all the same stays there: others may build on it by then. */
  keepOnFailure?: boolean;
  /** what the object will be, where that is known: sending it may go on where a failed put of the same bytes was cut off */
  whole?: Stored;
  /** called while what was stored is read back: that takes its time, and no bytes of the body go meanwhile */
  alive?: () => void;
}

/**
 * A place that keeps objects: a directory, an S3 prefix. Five members; everything else (packs, manifests, retention) is
 * built on them. An implementation guarantees:
 *
 * - `put` resolves only after the object is stored whole and durable under its final name, with its size (and, where the
 *   place can, its hash) read back and equal to what was sent. If it rejects, nothing is visible under the name.
 * - `put` never replaces an object: an existing key rejects with DEST_EXISTS.
 * - `get` of a missing key rejects with OBJECT_MISSING, before any byte.
 * - `list` yields only whole objects, in the byte order of their keys.
 * - `delete` of a missing key resolves. One that the place keeps (a lock, a key that may only add) rejects with DELETE_REFUSED.
 *
 * Failures are LifeboatErrors: DEST_FULL, DEST_UNWRITABLE, DEST_UNREACHABLE, DEST_DAMAGED, OBJECT_MISSING, OBJECT_ARCHIVED.
 */
export interface Destination {
  /** How it is named to people, without secrets: `/backups`, `s3://bucket/prefix`. */
  readonly name: string;
  put(key: string, body: Readable, options?: PutOptions): Promise<Stored>;
  get(key: string, options?: { range?: ByteRange; signal?: AbortSignal }): Promise<Readable>;
  /** `prefix` is empty or ends with `/`, so that `app/` never finds `app-staging/`. */
  list(prefix: string, options?: { signal?: AbortSignal }): AsyncIterable<ObjectInfo>;
  delete(key: string, options?: { signal?: AbortSignal }): Promise<void>;
}

/** A destination that may lock what is stored in it for a time, during which nobody can delete it for good. */
export interface LockingDestination extends SweepingDestination {
  /**
   * Sees to it that each of the objects stays locked for at least as long as one that is stored now. Returns how many locks were
   * prolonged: 0 where nothing is locked. `alive` is called for each object.
   *
   * @throws DEST_UNWRITABLE when the key may not do that
   */
  prolongLocks(keys: readonly string[], now: Date, signal?: AbortSignal, alive?: () => void): Promise<number>;
}

/** True for a destination that may lock. */
export function isLocking(destination: Destination): destination is LockingDestination {
  return 'prolongLocks' in destination;
}

/** A destination that has leftovers which its listing does not show. */
export interface SweepingDestination extends Destination {
  /**
   * Removes what runs that died left unfinished below `prefix` (default everywhere). Returns how many. Only called when
   * nothing is being stored there.
   */
  sweepTemporary(options?: { prefix?: string; olderThanMs?: number; signal?: AbortSignal }): Promise<number>;
}

const uncertain = new WeakSet<Error>();

/** Marks why a put failed after which the object may be there all the same, or appear later. Returns the error. */
export function markUncertain(error: unknown): unknown {
  if (error instanceof Error) uncertain.add(error);
  return error;
}

/** Whether an error, or what caused it, was marked by {@link markUncertain}. */
export function isUncertain(error: unknown): boolean {
  return error instanceof Error && (uncertain.has(error) || isUncertain(error.cause));
}
