import { createHash } from 'node:crypto';
import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import type { Destination } from '../destinations/destination.ts';
import type { ObjectRef } from '../store/objects/manifest.ts';
import { goneAway } from '../store/repository/copy-objects.ts';
import { type DamageJudge, isDamage } from '../store/repository/damage.ts';
import type { Repository } from '../store/repository/repository.ts';

export interface ReadOptions {
  /** which share of the stored bytes to read and hash: 0 to 1 */
  readData: number;
  /** where the last check with a share ended: the key after which this one goes on */
  after?: string;
  signal: AbortSignal;
  progress?(done: number, total: number): void;
}

/** What is read. */
interface Reading {
  repository: Repository;
  objects: ReadonlyMap<string, ObjectRef>;
  /** what is found is added */
  damaged: Map<string, ErrorInfo>;
  /** objects that are there, and could not even be looked at */
  unlooked: ReadonlyMap<string, LifeboatError>;
  judge: DamageJudge;
  /** bytes of all objects */
  total: number;
}

/** What came of it. */
interface Share {
  /** read and hashed */
  bytes: number;
  next?: string;
  unread: Map<string, ErrorInfo>;
  stopped?: ErrorInfo;
}

/**
 * Reads and hashes objects in the order of their keys, beginning after `after` and going round, until the share is read.
 * Repeated checks of a share therefore come past everything. It ends early when the destination goes away.
 */
export async function readShare(
  { repository, objects, damaged, unlooked, judge, total }: Reading,
  { readData, after, signal, progress }: ReadOptions,
): Promise<Share> {
  const keys = [...objects.keys()].sort();
  const start = readData >= 1 || after === undefined ? 0 : keys.findIndex((key) => key > after);
  const order = start <= 0 ? keys : [...keys.slice(start), ...keys.slice(0, start)];
  const wanted = total * Math.min(readData, 1);
  const share: Share = { bytes: 0, unread: new Map() };
  for (const [key, error] of unlooked) {
    const finding = await judge.judge(key, error);
    signal.throwIfAborted();
    if (finding === 'outage')
      return { ...share, stopped: errorInfo(error), ...(after === undefined ? {} : { next: after }) };
    share.unread.set(key, errorInfo(error));
  }
  let last = after;
  for (const key of order) {
    if (share.bytes >= wanted) break;
    signal.throwIfAborted();
    const ref = objects.get(key) as ObjectRef;
    if (damaged.has(key) || share.unread.has(key)) continue;
    const error = await readOne(repository.destination, ref, signal);
    if (error === undefined) {
      judge.read(key);
    } else {
      const finding = await judge.judge(key, error);
      signal.throwIfAborted();
      if (finding === 'outage') {
        for (const doubted of judge.doubted) damaged.delete(doubted);
        share.stopped = errorInfo(isDamage(error) ? goneAway(repository.destination, error) : error);
        break;
      }
      if (finding === 'unread') share.unread.set(key, errorInfo(error));
      else damaged.set(key, errorInfo(error));
    }
    last = key;
    share.bytes += ref.size;
    progress?.(share.bytes, wanted);
  }
  return last === undefined || readData >= 1 ? share : { ...share, next: last };
}

/** Resolves to why an object is not what it should be, or could not be read. */
async function readOne(destination: Destination, ref: ObjectRef, signal: AbortSignal): Promise<unknown> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of await destination.get(ref.key, { signal })) hash.update(chunk as Buffer);
  } catch (error) {
    signal.throwIfAborted();
    return error;
  }
  if (hash.digest('hex') === ref.sha256) return undefined;
  return new LifeboatError('OBJECT_DAMAGED', `${ref.key} is not what was stored`);
}
