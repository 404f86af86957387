import { createHash } from 'node:crypto';
import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import type { Destination } from '../destinations/destination.ts';
import { compareKeys } from '../destinations/keys.ts';
import type { ObjectRef } from '../store/objects/manifest.ts';
import { goneAway } from '../store/repository/copy-objects.ts';
import { type DamageJudge, isDamage } from '../store/repository/damage.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { NeededObjects } from './needed-objects.ts';

export interface ReadOptions {
  /** the share of the stored bytes to read and hash: 0 to 1 */
  readData: number;
  /** the last key that the previous check with a share has read; this check continues after it */
  after?: string;
  signal: AbortSignal;
  progress?(done: number, total: number): void;
}

/** The objects to read. */
interface Reading {
  repository: Repository;
  /** damaged ones that are found are added to them */
  objects: NeededObjects;
  judge: DamageJudge;
}

/** The result of reading a share. */
interface Share {
  /** bytes that were read and hashed */
  bytes: number;
  next?: string;
  unread: Map<string, ErrorInfo>;
  stopped?: ErrorInfo;
}

/**
 * Reads and hashes objects in the order of their keys until the share is read. Begins after `after` and continues with
 * the first key after the last, so repeated checks of a share eventually read everything. Ends early if the destination
 * becomes unreachable, or the signal aborts. What was found by then still counts, except disk errors at the very end,
 * which may be those of a destination that is gone: the next check begins there.
 */
export async function readShare(
  { repository, objects, judge }: Reading,
  { readData, after, signal, progress }: ReadOptions,
): Promise<Share> {
  const { damaged, unsized } = objects;
  const wanted = objects.bytes * Math.min(readData, 1);
  const share: Share = { bytes: 0, unread: new Map() };
  for (const [key, error] of unsized) {
    const stopped = (await judge.judge(key, error)) === 'outage' ? error : signal.reason;
    if (stopped !== undefined)
      return { ...share, stopped: errorInfo(stopped), ...(after === undefined ? {} : { next: after }) };
    share.unread.set(key, errorInfo(error));
  }
  let last = after;
  let sure = after;
  for (const ref of inOrder(objects, readData < 1 ? after : undefined)) {
    const { key } = ref;
    if (share.bytes >= wanted) break;
    if (damaged.has(key) || share.unread.has(key)) continue;
    const error = await readOne(repository.destination, ref, signal);
    const finding = error === undefined || signal.aborted ? undefined : await judge.judge(key, error);
    if (signal.aborted) {
      share.stopped = errorInfo(signal.reason);
      break;
    }
    if (error === undefined) {
      judge.read(key);
    } else {
      if (finding === 'outage') {
        share.stopped = errorInfo(isDamage(error) ? goneAway(repository.destination, error) : error);
        break;
      }
      if (finding === 'unread') share.unread.set(key, errorInfo(error));
      else damaged.set(key, errorInfo(error));
    }
    last = key;
    if (judge.doubted.size === 0) sure = key;
    share.bytes += ref.size;
    progress?.(share.bytes, wanted);
  }
  if (share.stopped) {
    // The next check decides about them.
    for (const doubted of judge.doubted) damaged.delete(doubted);
    last = sure;
  }
  return last === undefined || readData >= 1 ? share : { ...share, next: last };
}

/** Yields the objects in the order of their keys: first those after `after`, then the others. */
function* inOrder(objects: NeededObjects, after: string | undefined): Generator<ObjectRef> {
  if (after === undefined) return yield* objects.present();
  for (const ref of objects.present()) if (compareKeys(ref.key, after) > 0) yield ref;
  for (const ref of objects.present()) {
    if (compareKeys(ref.key, after) > 0) return;
    yield ref;
  }
}

/** Reads an object. Resolves to an error if it is damaged or could not be read, else to undefined. */
async function readOne(destination: Destination, ref: ObjectRef, signal: AbortSignal): Promise<unknown> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of await destination.get(ref.key, { signal, fromDisk: true })) hash.update(chunk as Buffer);
  } catch (error) {
    return error;
  }
  if (hash.digest('hex') === ref.sha256) return undefined;
  return new LifeboatError('OBJECT_DAMAGED', `${ref.key} is not what was stored`);
}
