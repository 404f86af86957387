import { MAX_FACTS } from './fact-batch.ts';
import { FOR_CHANGES, type Paging } from './slots.ts';

/** Bounds of the memory that a change takes. */
export interface Limits {
  /** the most facts that wait in memory */
  facts: number;
  paging: Paging;
}
export const LIMITS: Limits = { facts: MAX_FACTS, paging: FOR_CHANGES };

/** Returns whether the table may go on naming a pack, given by ID, for a content that is added again. */
export type IsKept = (pack: string) => boolean;

export interface ChangeOptions {
  limits?: Limits;
  /** ends a repair, which may take minutes */
  signal?: AbortSignal | undefined;
}

/** Which contents a table keeps, and where. Packs are given by ID. */
export interface Choice {
  /** returns whether a kept snapshot names a pack */
  isNamed(pack: string): boolean;
  /** returns whether the run may use a pack that a kept snapshot names */
  isUsable(pack: string): boolean;
  /** true: a pack may be used again, so the table chooses its places again; false: only after it has grown much */
  mustChoose: boolean;
  signal?: AbortSignal | undefined;
}

export interface NewTable extends ChangeOptions {
  directory: string;
  of: string;
}
