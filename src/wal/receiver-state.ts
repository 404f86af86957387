import path from 'node:path';
import type { ErrorInfo } from '../base/errors.ts';
import type { PostgresSource } from '../plan/model.ts';
import { forget, readJson, writeJson } from '../run/state-files.ts';
import type { Confirmed } from '../store/wal/coverage.ts';
import type { LogEnd, RememberedWal, Remembering, Replacement } from '../store/wal/remembered.ts';

/** The last report of the receiver of a source. The daemon writes it, and other commands read it. */
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
  /** the timeline on which it wrote at that time */
  timeline?: number;
  /** the last time at which everything that the server had written was stored */
  confirmed?: Confirmed;
  /** the newest page of the log */
  logged?: LogEnd;
  /** why the WAL that follows begins another history */
  diverged?: ErrorInfo;
}

/** Returns what the agent remembers of the WAL that it has stored. */
export function rememberedOf(state: Partial<ReceiverState> = {}): RememberedWal | undefined {
  const { systemId, logged, confirmed, timeline } = state;
  return systemId === undefined ? undefined : { systemId, logged, confirmed, timeline };
}

/** Returns what the agent remembers of the stored WAL of each source, from the memory below its state directory. */
export function rememberedIn(directory: string): Remembering {
  const memory = openReceiverMemory(directory);
  return async (source) => {
    const known = rememberedOf(await memory.state(source));
    const replacement = await memory.replacement(source);
    if (!replacement) return known;
    const { systemId, timeline } = replacement;
    // What is stored of the former server stays known.
    const of = known && known.systemId !== systemId ? known : { ...known, systemId, timeline };
    return { ...of, replacement };
  };
}

/** Returns the recorded replacement if a server runs on its data. One that did not take place says nothing. */
export async function replacementOf(
  memory: Pick<ReceiverMemory, 'replacement'>,
  source: string,
  { systemId, timeline }: Pick<Replacement, 'systemId' | 'timeline'>,
): Promise<Replacement | undefined> {
  const found = await memory.replacement(source);
  return found?.systemId === systemId && found.timeline === timeline ? found : undefined;
}

/** Removes a recorded replacement, unless another recovery has recorded its own since it was read. */
export async function forgetReplacement(
  memory: Pick<ReceiverMemory, 'replacement' | 'saveReplacement'>,
  source: string,
  known: Replacement | undefined,
): Promise<void> {
  const found = await memory.replacement(source);
  if (JSON.stringify(found) === JSON.stringify(known)) await memory.saveReplacement(source, undefined);
}

/** The end of the WAL of a source that a copy has. */
export interface CopiedWal {
  /** ISO time by the server's clock: every transaction that had committed by then is in the copy */
  reached?: string;
  /** page and revision of the log that the copy has */
  page: number;
  revision: number;
  /** why the copy lacks newer WAL */
  error?: ErrorInfo;
}

/** A replication slot that this agent has created, or is about to create. */
export interface SlotRecord {
  slot: string;
  source: string;
  /** how to reach the server, without a password */
  server: PostgresSource;
  /** since when no label asks for the slot, ISO time */
  leftSince?: string;
  /** ISO time */
  at: string;
}

/** The memory of receivers, as small files in the state directory of the agent. */
export interface ReceiverMemory {
  state(source: string): Promise<ReceiverState | undefined>;
  saveState(source: string, state: ReceiverState): Promise<void>;
  /** the data that a recovery puts in place: recorded before that, and until the receiver has reached the server */
  replacement(source: string): Promise<Replacement | undefined>;
  /** @param replacement undefined: the receiver has reached the server since then */
  saveReplacement(source: string, replacement: Replacement | undefined): Promise<void>;
  /** returns how far each copy has the WAL of a source, by the name of the copy */
  copied(source: string): Promise<Record<string, CopiedWal>>;
  saveCopied(source: string, copied: Readonly<Record<string, CopiedWal>>): Promise<void>;
  slots(): Promise<SlotRecord[]>;
  /** Replaces the records of slots. Changes follow each other, so none is lost. */
  updateSlots(change: (slots: readonly SlotRecord[]) => readonly SlotRecord[]): Promise<void>;
}

/** Opens the memory below the state directory. */
export function openReceiverMemory(directory: string): ReceiverMemory {
  const file = (name: string) => path.join(directory, 'wal', name);
  const slots = async () => (await readJson<SlotRecord[]>(file('slots.json'))) ?? [];
  let changing: Promise<void> = Promise.resolve();
  return {
    state: (source) => readJson<ReceiverState>(file(`${source}.json`)),
    saveState: (source, state) => writeJson(file(`${source}.json`), state),
    replacement: (source) => readJson<Replacement>(file(`${source}.replacement.json`)),
    saveReplacement(source, replacement) {
      const name = file(`${source}.replacement.json`);
      return replacement ? writeJson(name, replacement) : forget([name]);
    },
    copied: async (source) => (await readJson<Record<string, CopiedWal>>(file(`${source}.copies.json`))) ?? {},
    saveCopied: (source, copied) => writeJson(file(`${source}.copies.json`), copied),
    slots,
    updateSlots(change) {
      const changed = changing.then(async () => writeJson(file('slots.json'), change(await slots())));
      changing = changed.catch(() => undefined);
      return changed;
    },
  };
}
