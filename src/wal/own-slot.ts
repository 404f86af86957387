import type { Log } from '../base/log.ts';
import type { BaseSource } from '../plan/model.ts';
import type { Session } from '../sources/postgres/server/session.ts';
import { createSlot, dropSlot, type SlotState } from '../sources/postgres/wal/slot.ts';
import type { ReceiverMemory } from './receiver-state.ts';
import { isSpent } from './slot-watch.ts';

/** The options of {@link ensureSlot}. */
interface SlotOptions {
  session: Session;
  slot: string;
  source: BaseSource;
  memory: ReceiverMemory;
  log: Log;
  now(): Date;
  /** replace the slot in any case */
  renew: boolean;
}

/**
 * Creates the slot if it is missing, lost, or keeps too much WAL. Its name is recorded first.
 *
 * @returns why WAL may be missing now; undefined if the slot was there and stays
 */
export async function ensureSlot(
  { session, slot, source, memory, log, now, renew }: SlotOptions,
  state: SlotState,
): Promise<string | undefined> {
  if (state.slot && !renew && !isSpent(state)) return undefined;
  const { server, containerName } = source;
  const others = (await memory.slots()).filter((one) => one.slot !== slot);
  await memory.saveSlots([...others, { slot, source: server, containerName, at: now().toISOString() }]);
  if (state.slot) await dropSlot(session, slot);
  await createSlot(session, slot);
  log.info('created a replication slot', { source: server, slot });
  return state.slot ? 'the server kept more WAL for the slot than it may' : 'the replication slot was gone';
}
