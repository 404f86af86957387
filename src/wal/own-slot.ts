import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BaseSource } from '../plan/model.ts';
import { serverOf } from '../plan/postgres.ts';
import type { Session } from '../sources/postgres/server/session.ts';
import { createSlot, dropSlot, readSlot, type SlotState } from '../sources/postgres/wal/slot.ts';
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
 * Creates the slot if it is missing or lost. Its name is recorded first.
 *
 * @returns why WAL may be missing now; undefined if the slot was there and stays
 */
export async function ensureSlot(
  { session, slot, source, memory, log, now, renew }: SlotOptions,
  state: SlotState,
): Promise<string | undefined> {
  if (state.slot && !renew && !isSpent(state)) return undefined;
  const { password: _, ...server } = serverOf(source);
  const record = { slot, source: source.server, server, at: now().toISOString() };
  await memory.updateSlots((all) => [...all.filter((one) => one.slot !== slot), record]);
  if (state.slot) await dropSlot(session, slot);
  await createSlot(session, slot);
  log.info('created a replication slot', { source: source.server, slot });
  return state.slot ? 'the server removed WAL that the slot needed' : 'the replication slot was gone';
}

/**
 * Drops the slot that an agent with another memory created for the same source, such as this one before it lost its
 * spool. A slot that is in use stays: that agent still runs.
 */
export async function dropFormerSlot(
  { session, source, log }: Pick<SlotOptions, 'session' | 'source' | 'log'>,
  former: string,
): Promise<void> {
  const { slot } = await readSlot(session, former);
  if (!slot || slot.active) return;
  await dropSlot(session, former);
  log.info('dropped the replication slot of an earlier spool', { source: source.server, slot: former });
}

const WAL_IS_GONE =
  /requested WAL segment \S+ has already been removed|is ahead of the WAL flush position|is not in this server's history/;

/** Returns whether the server has removed WAL that the receiver asked for, or never had it (walsender.c). */
export function isWalGone(error: unknown): boolean {
  return WAL_IS_GONE.test(errorInfo(error).message);
}
