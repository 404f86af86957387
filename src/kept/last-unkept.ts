import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import type { RestoreReport } from '../report/events.ts';
import { formatAgo } from '../report/format.ts';
import type { Rollback, State } from '../run/state.ts';
import { readJson, writeJson } from '../run/state-files.ts';
import { matching, type Wanted } from './choose.ts';

/**
 * The last restore, if it put no data aside: a restore of tables, or under another name. A rollback without an id means
 * the last restore, so it must not silently undo an older one.
 */
interface Unkept {
  /** of the restore, or of its group */
  id: string;
  /** ISO time */
  at: string;
  source: string;
  /** how to undo it by hand, see {@link RestoreReport.undo} */
  undo?: string;
}

const fileIn = (directory: string) => path.join(directory, 'last-unkept.json');

/** Records a restore that is done: the last one, if it put nothing aside. */
export async function noteLast(
  { directory }: Pick<State, 'directory'>,
  { id, start: at, source, restored, canRollBack, undo }: RestoreReport,
): Promise<void> {
  if (restored.length === 0) return;
  const unkept: Unkept = { id, at, source, ...(undo === undefined ? {} : { undo }) };
  await (canRollBack ? forgetLast({ directory }) : writeJson(fileIn(directory), unkept));
}

/** Forgets the last restore that put nothing aside, because a later restore or a rollback succeeded. */
export async function forgetLast({ directory }: Pick<State, 'directory'>): Promise<void> {
  if ((await readJson<Unkept | null>(fileIn(directory))) != null) await writeJson(fileIn(directory), null);
}

/**
 * Refuses a rollback without an id that would undo an older restore than the last one.
 *
 * @param group of the older restore, if all of it would be rolled back
 * @throws NOT_CONFIRMED with the command that undoes the older one on purpose
 */
export async function refuseOlder(
  { state, now }: { state: Pick<State, 'directory' | 'rollbacks'>; now(): Date },
  wanted: Wanted,
  group?: string,
): Promise<void> {
  const older = matching(await state.rollbacks(), wanted).at(-1);
  if (older) await refuseIfOlder({ state, now }, wanted, older, group);
}

/** Refuses a rollback of one restore like {@link refuseOlder}, once it is known which one that is. */
export async function refuseIfOlder(
  { state, now }: { state: Pick<State, 'directory'>; now(): Date },
  wanted: Wanted,
  older: Rollback,
  group?: string,
): Promise<void> {
  if (wanted.id !== undefined) return;
  const last = await readJson<Unkept | null>(fileIn(state.directory));
  if (!last || older.id > last.id) return;
  const id = group ?? older.id;
  const ago = (at: string) => formatAgo(new Date(at), now());
  const undo = last.undo === undefined ? '' : `To undo it: ${last.undo}. `;
  const message = `the last restore, ${last.id} of ${last.source} (${ago(last.at)}), cannot be rolled back: it replaced nothing`;
  throw new LifeboatError('NOT_CONFIRMED', message, {
    hint: `${undo}\`lifeboat rollback ${id}\` ${effectOf(older, group)}, made ${ago(older.at)}, and takes everything written since then out of use. Nothing was changed.`,
  });
}

function effectOf({ id, source, inUse }: Rollback, group: string | undefined): string {
  const what = group === undefined ? `restore ${id} of ${source}` : `restore ${group} (several sources)`;
  return inUse === 'restored' ? `instead undoes ${what}` : `instead brings back the data of ${what}`;
}
