import * as fs from 'node:fs';
import path from 'node:path';
import { FOR_LOOKUPS, type Paging, Slots } from './slots.ts';
import { readState, type TableState } from './table-state.ts';

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

/** The codes of a disk that is full. */
export const FULL = ['ENOSPC', 'EDQUOT'] as const;
/** A second table must leave so much room on the disk, bytes. */
const MARGIN = 64 * 1024 * 1024;

/** Returns the directory of a table that is being made, and replaces the one in `directory` later. */
export function freshOf(directory: string): string {
  return `${directory}.new`;
}

const oldOf = (directory: string) => `${directory}.old`;

/** Puts a new table that is complete in the place of an earlier one. A kill at any moment leaves one of the two. */
export function replaceTable(directory: string): void {
  if (fs.existsSync(directory)) fs.renameSync(directory, oldOf(directory));
  fs.renameSync(freshOf(directory), directory);
  remove(oldOf(directory));
}

/** Completes a replacement that was cut short, and removes what a new table that was cut short has left. */
export function settleTable(directory: string): void {
  const fresh = freshOf(directory);
  if (!fs.existsSync(directory) && readState(fresh)?.facts !== undefined) fs.renameSync(fresh, directory);
  remove(fresh);
  remove(oldOf(directory));
}

/** Returns whether the disk has room for a second table as large as the one in `directory`, and for `more` bytes. */
export function hasRoomForCopy(directory: string, more: number): boolean {
  const sizes = fs.readdirSync(directory).map((name) => fs.statSync(path.join(directory, name)).size);
  const { bavail, bsize } = fs.statfsSync(directory);
  return bavail * bsize >= sizes.reduce((sum, size) => sum + size, more + MARGIN);
}

function remove(directory: string): void {
  fs.rmSync(directory, { recursive: true, force: true });
}
