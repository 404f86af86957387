import * as fs from 'node:fs';
import path from 'node:path';

/** The state of a table, as stored next to it. */
export interface TableState {
  /** the repository and project that the facts are about */
  of: string;
  /** the length of the facts that the slots cover, bytes; absent while the table is being changed */
  facts?: number;
  /** number of different contents */
  used: number;
  /** SHA-256 of the stored indexes whose lines are all in the table */
  covered: string[];
  /** the length of the facts when those of unused packs were removed last, bytes */
  base?: number;
}

/** Reads the state of a table. Undefined if there is none, or if it cannot be used. */
export function readState(directory: string): TableState | undefined {
  try {
    const state = JSON.parse(fs.readFileSync(path.join(directory, 'state.json'), 'utf8')) as TableState;
    return typeof state.used === 'number' && Array.isArray(state.covered) ? state : undefined;
  } catch {
    return undefined;
  }
}

/** Replaces the state of a table, durably: the inverse of {@link readState}. */
export function writeState(directory: string, state: TableState): void {
  const file = path.join(directory, 'state.json');
  const handle = fs.openSync(`${file}.new`, 'w', 0o600);
  try {
    // Writes everything, or throws: a state that is cut short must not replace a good one.
    fs.writeFileSync(handle, JSON.stringify(state));
    fs.fsyncSync(handle);
  } finally {
    fs.closeSync(handle);
  }
  fs.renameSync(`${file}.new`, file);
}
