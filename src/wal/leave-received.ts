import type { Session } from '../sources/postgres/server/session.ts';
import { readSlot, type SlotState } from '../sources/postgres/wal/slot.ts';
import type { Shipping } from './shipping.ts';
import { empty, holdsOtherTimeline, removeOtherTimelines } from './spool/received-files.ts';
import type { Storing } from './storing.ts';

/** Received WAL from which `pg_receivewal` must not continue: stores it, then drops it. */

/** The received WAL of a server. `storing`: ends work on a destination that hangs */
interface Received {
  session: Session;
  slot: string;
  directory: string;
  shipping: Shipping;
  storing: Pick<Storing, 'watched'>;
}

/**
 * Stores and drops all received WAL. `pg_receivewal` then begins where the slot begins. Throws PG_REPLICATION if a
 * tablespace was created: the rest stays, for the next history.
 *
 * @param last the last state of the slot with which the WAL was received; absent: what is in the files counts
 */
export async function leaveAll(received: Received, signal: AbortSignal, last?: SlotState['slot']): Promise<void> {
  const { session, slot, shipping, storing, directory } = received;
  if (last) await storeAll(received, { ...(await readSlot(session, slot)), slot: last }, signal);
  else {
    const left = await storing.watched((until, alive) => shipping.shipRest(until, alive), signal);
    // The next history stores the rest.
    if (left) throw left;
  }
  await empty(directory);
}

/**
 * Stores and drops what was received of another timeline than the server's, as after a recovery in place:
 * `pg_receivewal` would ask this server for the rest of it.
 */
export async function leaveTimeline(received: Received, segmentSize: number, signal: AbortSignal): Promise<void> {
  const { session, slot, directory } = received;
  const state = await readSlot(session, slot);
  if (!(await holdsOtherTimeline(directory, state.timeline, segmentSize))) return;
  await storeAll(received, state, signal);
  await removeOtherTimelines(directory, state.timeline, segmentSize);
}

async function storeAll({ shipping, storing }: Received, state: SlotState, signal: AbortSignal): Promise<void> {
  const ship = () => storing.watched((until, alive) => shipping.ship(state, until, alive), signal);
  while ((await ship()).more) signal.throwIfAborted();
}
