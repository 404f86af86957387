import type { SlotState } from '../sources/postgres/wal/slot.ts';
import type { ReceiverMemory } from './receiver-state.ts';

/** Recovered data that replaces that of a server. It is recorded before, and until the receiver has reached the server. */
export interface Replacement {
  systemId: string;
  /** the timeline that the recovered server writes on */
  timeline: number;
  /** number of the first page of the history of the WAL that it was recovered from; absent: WAL of another repository */
  era?: number;
}

/** Returns the recorded replacement if a server runs on its data. One that did not take place says nothing. */
export async function replacementOf(
  memory: Pick<ReceiverMemory, 'replacement'>,
  source: string,
  { systemId, timeline }: { systemId: string } & Pick<SlotState, 'timeline'>,
): Promise<Replacement | undefined> {
  const found = await memory.replacement(source);
  return found?.systemId === systemId && found.timeline === timeline ? found : undefined;
}
