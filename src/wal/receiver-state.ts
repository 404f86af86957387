import path from 'node:path';
import type { ErrorInfo } from '../base/errors.ts';
import { readJson, writeJson } from '../run/state-files.ts';
import type { Confirmed } from '../store/wal/coverage.ts';

/** What the receiver of a source last reported. The daemon writes it, and other commands read it. */
export interface ReceiverState {
  /** id of the server's data, once it is known */
  systemId?: string;
  slot: string;
  containerName: string;
  /** `receiving`: the slot is active, and follows the server */
  state: 'starting' | 'receiving' | 'failed';
  /** ISO time since when the state is what it is */
  since: string;
  error?: ErrorInfo;
  /** ISO time of the last look at the server, by the server's clock */
  at?: string;
  /** positions of the server and of the stored WAL at that time */
  written?: string;
  stored?: string;
  /** bytes that the server keeps for the slot, and, if the server limits them, bytes until the slot is lost */
  kept?: number;
  safe?: number;
  /** the last time at which everything that the server had written was stored */
  confirmed?: Confirmed;
}

/** A replication slot that this agent has created, or is about to create. */
interface SlotRecord {
  slot: string;
  source: string;
  containerName: string;
  /** ISO time */
  at: string;
}

/** The memory of receivers, as small files in the state directory of the agent. */
export interface ReceiverMemory {
  state(source: string): Promise<ReceiverState | undefined>;
  saveState(source: string, state: ReceiverState): Promise<void>;
  slots(): Promise<SlotRecord[]>;
  saveSlots(slots: readonly SlotRecord[]): Promise<void>;
}

/** Opens the memory below the state directory. */
export function openReceiverMemory(directory: string): ReceiverMemory {
  const file = (name: string) => path.join(directory, 'wal', name);
  return {
    state: (source) => readJson<ReceiverState>(file(`${source}.json`)),
    saveState: (source, state) => writeJson(file(`${source}.json`), state),
    slots: async () => (await readJson<SlotRecord[]>(file('slots.json'))) ?? [],
    saveSlots: (slots) => writeJson(file('slots.json'), slots),
  };
}
