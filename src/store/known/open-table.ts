import * as fs from 'node:fs';
import path from 'node:path';
import { FOR_LOOKUPS, type Paging, Slots } from './slots.ts';
import type { TableState } from './table-state.ts';

/** The parts of an open table. */
export interface Opened {
  directory: string;
  file: number;
  slots: Slots;
  state: Omit<TableState, 'covered'>;
  /** SHA-256 of the stored indexes whose lines are all in the table */
  covered: Set<string>;
  /** where the next fact goes, bytes */
  end: number;
}

/** Creates the files of an empty table in an existing directory. `of`: the repository and project. */
export function openNew(directory: string, of: string, paging: Paging): Opened {
  const file = fs.openSync(path.join(directory, 'facts'), 'w+', 0o600);
  try {
    const slots = Slots.create(path.join(directory, 'slots'), paging);
    return { directory, file, slots, state: { of, used: 0 }, covered: new Set(), end: 0 };
  } catch (error) {
    fs.closeSync(file);
    throw error;
  }
}

/** Opens the files of a table that was closed. Undefined if they do not fit together. */
export function openWhole(directory: string, state: TableState, paging: Paging): Opened | undefined {
  let slots: Slots | undefined;
  let file: number | undefined;
  try {
    slots = Slots.open(path.join(directory, 'slots'), state.used, paging);
    if (!slots) return undefined;
    file = fs.openSync(path.join(directory, 'facts'), paging === FOR_LOOKUPS ? 'r' : 'r+');
    const end = state.facts ?? 0;
    if (fs.fstatSync(file).size >= end) return { directory, file, slots, state, covered: new Set(state.covered), end };
  } catch {
    // It is made again.
  }
  if (file !== undefined) fs.closeSync(file);
  slots?.close();
  return undefined;
}
