import { LifeboatError } from '../base/errors.ts';
import type { KeptDatabase, Rollback } from '../run/state.ts';
import { readDatabases, renameDatabases, workingName } from '../sources/postgres/load/swap.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import type { Present } from './databases.ts';

/** Exchanges databases on a server with those that a restore put aside. */

/**
 * Returns whether the data from before a restore still has its expected name, although other restores swapped data too.
 */
export function holds(present: Present, { inUse }: Rollback, { name, before, oid }: Required<KeptDatabase>): boolean {
  const at = inUse === 'restored' ? before : name;
  return !present.has(at) || present.get(at)?.oid === oid;
}

export function outOfTurn({ id, source }: Rollback): LifeboatError {
  return new LifeboatError('USAGE', `other restores of ${source} swapped databases after ${id}`, {
    hint: 'Roll those back first: `lifeboat status` shows them, newest first. Nothing was changed.',
  });
}

/**
 * Exchanges the names of each database and its old database, in one transaction. @returns duration, milliseconds
 */
export async function swapDatabases(
  tools: Tools,
  { id, databases = [] }: Rollback,
  signal: AbortSignal,
): Promise<number> {
  const names = databases.flatMap(({ name, before }) => [name, before]);
  const control = await tools.control(...names);
  const present = await readDatabases(control, names);
  const gone = databases.filter(({ before }) => !present.has(before));
  if (gone.length > 0) {
    throw new LifeboatError('NOTHING_TO_ROLL_BACK', `database ${gone.map(({ before }) => before).join(', ')} is gone`, {
      hint: 'It was dropped by hand. Its safety snapshot can be restored: see `lifeboat snapshots`.',
    });
  }
  const renames = databases.flatMap(({ name, before }) => {
    const aside = workingName(name, 'restoring', id.slice(-6));
    if (!present.has(name)) return [{ from: before, to: name }];
    return [
      { from: name, to: aside },
      { from: before, to: name },
      { from: aside, to: before },
    ];
  });
  return renameDatabases(tools, control, renames, { inUse: names, signal });
}
