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

/** The older restore that a command means. */
interface Meant {
  /** all of this group is meant */
  group?: string | undefined;
  /** its old data is dropped, instead of brought back */
  forgets?: boolean;
}

/**
 * Refuses a rollback without an id that would undo an older restore than the last one, or drop its old data.
 *
 * @throws NOT_CONFIRMED with the command that does so on purpose
 */
export async function refuseOlder(
  { state, now }: { state: Pick<State, 'directory' | 'rollbacks'>; now(): Date },
  wanted: Wanted,
  meant: Meant = {},
): Promise<void> {
  const older = matching(await state.rollbacks(), wanted).at(-1);
  if (older) await refuseIfOlder({ state, now }, wanted, older, meant);
}

/** Refuses a rollback of one restore like {@link refuseOlder}, once it is known which one that is. */
export async function refuseIfOlder(
  { state, now }: { state: Pick<State, 'directory'>; now(): Date },
  wanted: Wanted,
  older: Rollback,
  { group, forgets = false }: Meant = {},
): Promise<void> {
  if (wanted.id !== undefined) return;
  const last = await readJson<Unkept | null>(fileIn(state.directory));
  if (!last || older.id > last.id) return;
  const id = group ?? older.id;
  const what = group === undefined ? `restore ${id} of ${older.source}` : `restore ${group} (several sources)`;
  const ago = (at: string) => formatAgo(new Date(at), now());
  const made = `made ${ago(older.at)}`;
  const unkept = forgets ? 'put no data aside' : 'cannot be rolled back: it replaced nothing';
  throw new LifeboatError(
    'NOT_CONFIRMED',
    `the last restore, ${last.id} of ${last.source} (${ago(last.at)}), ${unkept}`,
    {
      hint: forgets
        ? `\`lifeboat rollback ${id} --forget\` permanently drops the data that ${what}, ${made}, put aside. Nothing was changed.`
        : `${undoOf(last)}\`lifeboat rollback ${id}\` instead ${effectOf(older, what)}, ${made}, and takes everything written since then out of use. Nothing was changed.`,
    },
  );
}

const undoOf = ({ undo }: Unkept) => (undo === undefined ? '' : `To undo it: ${undo}. `);

const effectOf = ({ inUse }: Rollback, what: string) =>
  inUse === 'restored' ? `undoes ${what}` : `brings back the data of ${what}`;
