import { LifeboatError } from '../base/errors.ts';
import type { SlotState } from '../sources/postgres/wal/slot.ts';
import { formatLsn } from '../store/wal/names.ts';
import type { ReceiverState } from './receiver-state.ts';

/** Judges a replication slot by its progress, and by the WAL that the server keeps for it. */

/** A receiver that is behind the server and does not move for this long is started again, milliseconds. */
const STALL_MS = 30_000;

/** The WAL that the server may keep for the slot, bytes: at half of it there is an alarm, and at all of it no slot. */
export const SLOT_LIMIT = 5 * 1024 ** 3;

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

/** Returns whether a slot no longer has the WAL that it should keep, or keeps more than the server's disk may lose. */
export function isSpent(state: SlotState): boolean {
  const { slot } = state;
  if (!slot) return false;
  return slot.status === 'lost' || slot.received === undefined || keptBytes(state) >= SLOT_LIMIT;
}

export function keptBytes({ slot, flushed }: SlotState): number {
  return slot?.received === undefined || slot.received > flushed ? 0 : Number(flushed - slot.received);
}

export function positions(state: SlotState): Pick<ReceiverState, 'at' | 'written' | 'kept' | 'safe'> {
  const { slot, flushed, at } = state;
  return {
    at,
    written: formatLsn(flushed),
    kept: keptBytes(state),
    ...(slot?.safe === undefined ? {} : { safe: slot.safe }),
  };
}
