import { LifeboatError } from '../base/errors.ts';
import { formatBytes } from '../report/format.ts';
import type { DiskSpace } from '../sources/postgres/facts/disk.ts';
import type { SlotState } from '../sources/postgres/wal/slot.ts';
import { formatLsn } from '../store/wal/names.ts';
import type { ReceiverState } from './receiver-state.ts';

/** Judges a replication slot by its progress, and by the WAL that the server keeps for it. */

/** A receiver that is behind the server and does not move for this long is started again, milliseconds. */
const STALL_MS = 30_000;

/** Notices a receiver that does not follow the server. */
export class Progress {
  private received: bigint | undefined;
  private target: bigint | undefined;
  private movedAt = performance.now();

  /** @throws WAL_GAP, PG_STALLED */
  check({ slot, flushed }: SlotState): void {
    if (!slot) throw new LifeboatError('WAL_GAP', 'the replication slot is gone');
    if (slot.status === 'lost') throw new LifeboatError('WAL_GAP', 'the server removed WAL that the slot needed');
    const reached = slot.active && slot.received !== undefined && slot.received >= (this.target ?? flushed);
    if (reached || slot.received !== this.received) {
      this.movedAt = performance.now();
      this.target = flushed;
    }
    this.received = slot.received;
    if (performance.now() - this.movedAt < STALL_MS) return;
    throw new LifeboatError('PG_STALLED', `the receiver of WAL has not followed the server for ${STALL_MS / 1000} s`);
  }
}

/** Returns whether a slot no longer has the WAL that it should keep. */
export function isSpent({ slot }: SlotState): boolean {
  return slot !== undefined && (slot.status === 'lost' || slot.kept === undefined);
}

/** The most WAL that the server, or the spool, may hold for a receiver, bytes. */
const MOST = 5 * 1024 ** 3;
/** The share of the disk that this WAL may take. */
export const SHARE = 10;
/** Below this share of free space, any WAL that is worth it is given up. */
const LAST_SHARE = 20;
/** Less WAL than this matters on no disk, bytes. */
export const WORTH = 64 * 1024 * 1024;

/** Returns how much WAL a disk may hold for a receiver, bytes. */
export function walLimit(disk: DiskSpace | undefined): number {
  return disk ? Math.min(MOST, disk.total / SHARE) : MOST;
}

/** Returns whether a disk has so little space left that WAL must not take more of it. */
export function isNearlyFull(disk: DiskSpace): boolean {
  return disk.free < disk.total / LAST_SHARE;
}

/** The danger that a slot is for the server. */
interface Danger {
  /** `alarm`: people should know; `drop`: the slot must go now */
  level: 'alarm' | 'drop';
  why: string;
}

/**
 * Returns whether the WAL that a server keeps for a slot endangers its disk. Where the server limits the slot itself
 * (`max_slot_wal_keep_size`), Lifeboat drops the slot only if the disk is nearly full.
 *
 * @param disk the file system of the WAL, if it is known
 */
export function judgeSlot(state: SlotState, disk: DiskSpace | undefined): Danger | undefined {
  const { slot } = state;
  if (!slot) return undefined;
  const kept = keptBytes(state);
  const limit = walLimit(disk);
  const much = `the server keeps ${formatBytes(kept)} of WAL for Lifeboat`;
  const few = disk && isNearlyFull(disk) && kept >= limit / SHARE;
  if (few) return { level: 'drop', why: `${much}, and its disk has only ${formatBytes(disk.free)} left` };
  if (slot.safe !== undefined) {
    const isNear = slot.status === 'unreserved' || slot.safe < kept;
    return isNear
      ? { level: 'alarm', why: `${much}, and drops it after another ${formatBytes(slot.safe)}` }
      : undefined;
  }
  if (kept >= limit) return { level: 'drop', why: `${much}, and the limit is ${formatBytes(limit)}` };
  if (kept >= limit / 2) return { level: 'alarm', why: `${much}. At ${formatBytes(limit)}, Lifeboat drops the slot` };
  return undefined;
}

/** Returns whether the server keeps enough WAL that the space on its disk matters. */
export function isWorthALook(state: SlotState): boolean {
  return keptBytes(state) >= WORTH;
}

/** Returns how much WAL a server keeps for a slot, bytes. */
export function keptBytes({ slot, flushed }: SlotState): number {
  return slot?.kept === undefined || slot.kept > flushed ? 0 : Number(flushed - slot.kept);
}

export function positions(state: SlotState): Pick<ReceiverState, 'at' | 'timeline' | 'written' | 'kept' | 'safe'> {
  const { slot, flushed, at, timeline } = state;
  return {
    ...{ at, timeline },
    written: formatLsn(flushed),
    kept: keptBytes(state),
    ...(slot?.safe === undefined ? {} : { safe: slot.safe }),
  };
}
