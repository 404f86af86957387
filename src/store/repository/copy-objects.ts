import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { hasCode, LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { MAX_DOCUMENT } from '../objects/bounds.ts';
import type { Manifest, ObjectRef } from '../objects/manifest.ts';
import { deleteUnlessKept, readEvenDamaged, streamOf } from '../objects/objects.ts';
import type { SeenLines } from '../objects/pack-list.ts';
import type { StoredObjects } from '../objects/stored-objects.ts';
import { type DamageJudge, isDamage } from './damage.ts';
import type { Repository } from './repository.ts';

/** Transfers objects between repositories as stored bytes, so neither a key nor the plain content is needed. */

/** The context of copying snapshots to another repository. */
export interface CopyContext {
  from: Repository;
  to: Repository;
  /** the content objects that `to` has; those that are sent are added */
  there: StoredObjects;
  /** lines of lists whose packs are whole at `to`: the next snapshot names most of them again */
  checked: SeenLines;
  /** keys of objects that may be damaged at `to` although their size is right; removed once they are whole */
  suspects: Set<string>;
  /** objects not to try again: damaged or missing at `from`, unreadable at `to`, or wrong there and not deletable */
  bad: Map<string, LifeboatError>;
  /** distinguishes damage at `from` from a disk or server that is gone */
  judge: DamageJudge;
  /** the same at `to`, for objects there that may be damaged */
  judgeThere: DamageJudge;
  /** returns what the snapshots that `to` already has say of some objects, by key; reads all their lists */
  namedThere(keys: ReadonlySet<string>): Promise<Map<string, ObjectRef>>;
  /** counts what was sent so far */
  sent: { snapshots: number; objects: number; bytes: number };
  /** called before the commit of a snapshot, once all its objects are there */
  complete(manifest: Manifest): Promise<void>;
  /** called right before each manifest */
  fence(): Promise<AbortSignal | undefined>;
  /** called with the number of bytes of each chunk */
  onBytes(bytes: number): void;
  signal: AbortSignal;
}

/** Sends an object that `to` lacks, or that is wrong there. Records a failure that concerns this object alone. */
export async function bring(context: CopyContext, ref: ObjectRef): Promise<void> {
  const { from, to, there, suspects, bad, sent, signal } = context;
  try {
    if (!(await isWhole(context, ref))) {
      // It was cut short, or somebody else put it there: no manifest matches it.
      const why = there.get(ref.key) === ref.size ? 'is damaged' : 'has the wrong size';
      if (there.has(ref.key)) await removeWrong(to.destination, ref.key, why);
      await copyObject(context, ref);
      sent.objects += 1;
      sent.bytes += ref.size;
    }
  } catch (error) {
    signal.throwIfAborted();
    const isRead = error instanceof LifeboatError && fromSource.has(error);
    if (isDamage(error) || isRead) {
      const finding = await context.judge.judge(ref.key, error);
      if (finding === 'outage') {
        for (const key of context.judge.doubted) bad.delete(key);
        throw isDamage(error) ? goneAway(from.destination, error) : error;
      }
      if (finding === 'unread') asUnread(error);
    }
    if (isAboutSnapshot(error)) bad.set(ref.key, error);
    throw error;
  }
  context.judge.read(ref.key);
  there.set(ref.key, ref.size);
  suspects.delete(ref.key);
}

/** Returns DEST_UNREACHABLE for a repository that became unreachable while it was read. */
export function goneAway({ name }: Destination, cause: unknown): LifeboatError {
  return new LifeboatError('DEST_UNREACHABLE', `${name} could not be read any more`, {
    cause,
    hint: 'Check the disk, server or network behind it, then run the command again. This does not mean that anything is damaged.',
  });
}

/** Failures to read an object at `from`, whatever their code. */
const fromSource = new WeakSet<LifeboatError>();

/** Failures that concern one object only: other objects are readable. */
const unread = new WeakSet<LifeboatError>();

/** Marks a failure as one that concerns a single object, and returns it. */
export function asUnread(error: LifeboatError): LifeboatError {
  unread.add(error);
  return error;
}

/**
 * Returns true for an error that prevents the copy of one snapshot, but not of snapshots that do not need the same
 * object.
 */
export function isAboutSnapshot(error: unknown): error is LifeboatError {
  if (isDamage(error) || hasCode(error, 'DELETE_REFUSED')) return true;
  return error instanceof LifeboatError && unread.has(error);
}

/**
 * Deletes a wrong object so that the right one can take its name.
 *
 * @param what the end of the message: why the object is wrong
 * @throws DELETE_REFUSED if the destination does not allow it: the object is locked, or the key may only add objects
 */
export async function removeWrong(destination: Destination, key: string, what: string): Promise<void> {
  if (await deleteUnlessKept(destination, key)) return;
  throw new LifeboatError('DELETE_REFUSED', `${key} ${what} at ${destination.name}, which does not let it be deleted`, {
    hint: 'Delete it there with a key that may delete, or after its lock has expired. The next run sends it again.',
  });
}

/**
 * Returns whether an object that may be damaged at `to` is whole there. If it is not, `from` must have it whole: a
 * damaged object holds more than none.
 */
async function isWhole(context: CopyContext, ref: ObjectRef): Promise<boolean> {
  const { from, there, suspects, signal } = context;
  if (!suspects.has(ref.key) || there.get(ref.key) !== ref.size) return false;
  if (await isReadWhole(context, ref)) return true;
  for await (const _ of checked(from.destination, ref, () => undefined, signal));
  return false;
}

/** Reads an object at `to`. One that cannot be read there is not whole, as long as other objects can be read. */
async function isReadWhole({ to, judgeThere, signal }: CopyContext, { key, sha256 }: ObjectRef): Promise<boolean> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of await to.destination.get(key, { signal })) hash.update(chunk as Buffer);
  } catch (error) {
    signal.throwIfAborted();
    const finding = await judgeThere.judge(key, error);
    if (finding !== 'outage') return false;
    throw isDamage(error) ? goneAway(to.destination, error) : error;
  }
  judgeThere.read(key);
  return hash.digest('hex') === sha256;
}

/** Copies one object, whose name at `to` is free. @throws OBJECT_DAMAGED, OBJECT_MISSING, and as the destinations do */
export async function copyObject(
  { from, to, onBytes, signal }: Pick<CopyContext, 'from' | 'to' | 'onBytes' | 'signal'>,
  ref: ObjectRef,
): Promise<void> {
  const body = Readable.from(checked(from.destination, ref, onBytes, signal), { objectMode: false });
  const stored = await to.destination.put(ref.key, body, { signal, expectedSize: ref.size, whole: ref });
  if (stored.size === ref.size && stored.sha256 === ref.sha256) return;
  await deleteUnlessKept(to.destination, ref.key);
  throw new LifeboatError('DEST_DAMAGED', `${to.destination.name} did not store ${ref.key} as it was sent`);
}

/**
 * Streams the stored bytes of an object. Ends with an error if they do not match the manifest, so that nothing is
 * stored.
 */
async function* checked(
  from: Destination,
  ref: ObjectRef,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of readAt(from, ref.key, signal)) {
    hash.update(chunk);
    size += chunk.length;
    onBytes(chunk.length);
    yield chunk;
  }
  if (size === ref.size && hash.digest('hex') === ref.sha256) return;
  throw new LifeboatError('OBJECT_DAMAGED', `${ref.key} is not what was stored`, {
    hint: 'It was not copied. Back up again: the next backup stores damaged content again.',
  });
}

async function* readAt(from: Destination, key: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    yield* (await from.get(key, { signal })) as AsyncIterable<Buffer>;
  } catch (error) {
    if (error instanceof LifeboatError) fromSource.add(error);
    throw error;
  }
}

/**
 * Copies a small document unchanged. A document that is missing or damaged at `from`, or already at `to`, is not an
 * error.
 *
 * @returns false if the document exists at `from` and is damaged
 */
export async function copyDocument(from: Destination, to: Destination, key: string): Promise<boolean> {
  const found = await readEvenDamaged(from, key, { limit: MAX_DOCUMENT });
  if (!found?.bytes) return found === undefined;
  try {
    await to.put(key, streamOf(found.bytes));
  } catch (error) {
    if (!hasCode(error, 'DEST_EXISTS')) throw error;
  }
  return true;
}
