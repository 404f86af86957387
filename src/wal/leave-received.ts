import type { Session } from '../sources/postgres/server/session.ts';
import { readSlot, type SlotState } from '../sources/postgres/wal/slot.ts';
import type { Shipping } from './shipping.ts';
import { empty, holdsOtherTimeline, removeOtherTimelines } from './spool/received-files.ts';

/** Received WAL from which `pg_receivewal` must not continue: stores it, then drops it. */

/** The received WAL of a server. */
interface Received {
  session: Session;
  slot: string;
  directory: string;
  shipping: Shipping;
}

/**
 * Stores and drops all received WAL. `pg_receivewal` then begins where the slot begins.
 *
 * @param last the last state of the slot with which the WAL was received; absent: it still is that slot
 */
export async function leaveAll(
  { session, slot, shipping, directory }: Received,
  signal: AbortSignal,
  last?: SlotState['slot'],
): Promise<void> {
  const state = await readSlot(session, slot);
  await storeAll(shipping, last ? { ...state, slot: last } : settled(state), signal);
  await empty(directory);
}

/**
 * Stores and drops what was received of another timeline than the server's, as after a recovery in place:
 * `pg_receivewal` would ask this server for the rest of it.
 */
export async function leaveTimeline(
  { session, slot, shipping, directory }: Received,
  segmentSize: number,
  signal: AbortSignal,
): Promise<void> {
  const state = await readSlot(session, slot);
  if (!(await holdsOtherTimeline(directory, state.timeline, segmentSize))) return;
  await storeAll(shipping, state, signal);
  await removeOtherTimelines(directory, state.timeline, segmentSize);
}

/** Returns the state of a slot whose receiver has ended: it had written everything that the slot does not keep. */
function settled(state: SlotState): SlotState {
  const { slot } = state;
  return slot?.kept === undefined ? state : { ...state, slot: { received: slot.kept, ...slot } };
}

async function storeAll(shipping: Shipping, state: SlotState, signal: AbortSignal): Promise<void> {
  while ((await shipping.ship(state, signal)).more) signal.throwIfAborted();
}
