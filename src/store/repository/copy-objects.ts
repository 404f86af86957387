import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { hasCode, LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { type Manifest, manifestHash, manifestKey, type ObjectRef, objectsOf } from '../objects/manifest.ts';
import { deleteUnlessKept, readDocument, readEvenDamaged, readIfThere, streamOf } from '../objects/objects.ts';
import { type DamageJudge, isDamage } from './damage.ts';
import type { Repository, Snapshot } from './repository.ts';
import { expectInfo } from './repository-info.ts';

/** What goes from one repository to another, as the stored bytes that it is: neither a key nor the plain content is needed. */

/** How snapshots are brought to another repository. */
export interface CopyContext {
  from: Repository;
  to: Repository;
  /** content objects that `to` has, by key with their size in bytes; kept up to date */
  there: Map<string, number>;
  /** objects that were found to be damaged or missing at `from`, or wrong at `to` and kept there, or not readable there: not tried again */
  bad: Map<string, LifeboatError>;
  /** tells damage at `from` from a disk or server that is gone */
  judge: DamageJudge;
  /** counts up as things are sent */
  sent: { snapshots: number; objects: number; bytes: number };
  /** called for each snapshot that is to be committed, when all its objects are there */
  complete(manifest: Manifest): Promise<void>;
  /** called right before each manifest */
  fence(): Promise<AbortSignal | undefined>;
  /** hears of bytes as they go */
  heard(bytes: number): void;
  signal: AbortSignal;
}

/**
 * Brings one snapshot: the objects that are missing there or have another size, then its manifest, if that is missing and `commit` is set. What does
 * not have the hash that the manifest says never gets its name there, and then no manifest names it there. Killed at any point it
 * leaves whole objects, which the next call finds.
 *
 * @throws OBJECT_DAMAGED, OBJECT_MISSING: `from` does not have what the manifest says; DELETE_REFUSED: `to` keeps something wrong
 * in its place; a failure to read one object while others can be read, see {@link isAboutSnapshot}; what `fence` and the destinations throw
 */
export async function copySnapshot(context: CopyContext, { manifest, hash }: Snapshot, commit: boolean): Promise<void> {
  const { from, to, there, bad, sent, signal } = context;
  const objects = new Map(objectsOf(manifest).map((ref) => [ref.key, ref]));
  const lacking = [...objects.values()].filter(({ key, size }) => there.get(key) !== size);
  for (const ref of lacking) {
    const known = bad.get(ref.key);
    if (known) throw known;
  }
  for (const ref of lacking) {
    signal.throwIfAborted();
    // Cut short or put there by somebody: no manifest can be right about it.
    try {
      if (there.has(ref.key)) await removeWrong(to.destination, ref.key, 'has the wrong size');
      await copyObject(context, ref);
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
    sent.objects += 1;
    sent.bytes += ref.size;
  }
  if (!commit) return;
  const key = manifestKey(from.project, manifest.id);
  const bytes = await readDocument(from.destination, key, { signal });
  if (manifestHash(bytes) !== hash) throw new LifeboatError('OBJECT_DAMAGED', `${key} has changed meanwhile`);
  await context.complete(manifest);
  const lease = await context.fence();
  await expectInfo(to.destination, to.info);
  const ends = AbortSignal.any([signal, ...(lease ? [lease] : [])]);
  try {
    await to.destination.put(key, streamOf(bytes), { signal: ends, keepOnFailure: true });
  } catch (error) {
    // Brought by another agent that was held up until now, or by this one when the answer was lost.
    const isThere = hasCode(error, 'DEST_EXISTS');
    if (!isThere || !(await readIfThere(to.destination, key))?.equals(bytes)) throw error;
  }
  sent.snapshots += 1;
}

/** What is said of a repository that went away while it was read. */
export function goneAway({ name }: Destination, cause: unknown): LifeboatError {
  return new LifeboatError('DEST_UNREACHABLE', `${name} could not be read any more`, {
    cause,
    hint: 'Look at the disk, server or network behind it, then run it again: nothing was found to be damaged by this.',
  });
}

/** Failures to read an object at `from`, whatever they say. */
const fromSource = new WeakSet<LifeboatError>();

/** Those of them that say something of one object only: others can be read. */
const unread = new WeakSet<LifeboatError>();

/** Marks a failure that says something of one object only. Returns it. */
export function asUnread(error: LifeboatError): LifeboatError {
  unread.add(error);
  return error;
}

/** True for what keeps one snapshot from the other repository, and not those that do not need the same object. */
export function isAboutSnapshot(error: unknown): error is LifeboatError {
  if (isDamage(error)) return true;
  return error instanceof LifeboatError && (error.code === 'DELETE_REFUSED' || unread.has(error));
}

/** Makes room for what is right. Throws DELETE_REFUSED where the destination keeps what is wrong: a lock, a key that may only add. */
export async function removeWrong(destination: Destination, key: string, what: string): Promise<void> {
  if (await deleteUnlessKept(destination, key)) return;
  throw new LifeboatError('DELETE_REFUSED', `${key} ${what} at ${destination.name}, which does not let it be deleted`, {
    hint: 'Delete it there with a key that may, or when its lock has ended; the next run sends it again.',
  });
}

async function copyObject({ from, to, heard, signal }: CopyContext, ref: ObjectRef): Promise<void> {
  const body = Readable.from(checked(from.destination, ref, heard, signal), { objectMode: false });
  const stored = await to.destination.put(ref.key, body, { signal, expectedSize: ref.size, whole: ref });
  if (stored.size === ref.size && stored.sha256 === ref.sha256) return;
  await deleteUnlessKept(to.destination, ref.key);
  throw new LifeboatError('DEST_DAMAGED', `${ref.key} is not at ${to.destination.name} what was sent`);
}

/** The stored bytes of an object. Ends with an error unless they are what the manifest says: then nothing is stored of it. */
async function* checked(
  from: Destination,
  ref: ObjectRef,
  heard: (bytes: number) => void,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of readAt(from, ref.key, signal)) {
    hash.update(chunk);
    size += chunk.length;
    heard(chunk.length);
    yield chunk;
  }
  if (size === ref.size && hash.digest('hex') === ref.sha256) return;
  throw new LifeboatError('OBJECT_DAMAGED', `${ref.key} is not what was stored`, {
    hint: 'It was not copied. Back up again: what is damaged is stored anew.',
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
 * Brings a small document as it is. One that is gone, damaged, or there already, is no error. Resolves to false for one that is there
 * and damaged.
 */
export async function copyDocument(from: Destination, to: Destination, key: string): Promise<boolean> {
  const bytes = await readEvenDamaged(from, key);
  if (!Buffer.isBuffer(bytes)) return bytes === undefined;
  try {
    await to.put(key, streamOf(bytes));
  } catch (error) {
    if (!hasCode(error, 'DEST_EXISTS')) throw error;
  }
  return true;
}
