import { readdirSync } from 'node:fs';
import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import type { Mount } from '../plan/model.ts';
import { isSqliteAt } from '../store/sqlite/sqlite-file.ts';
import type { RestoreContext, RestoreRequest } from './context.ts';

/**
 * SQLite applies the log that it finds next to a database, whatever the database is (sqlite.org/howtocorrupt.html,
 * section 1.4). With a single mounted file, the log may be in the container, out of Lifeboat's reach.
 */
const MOVE_LOGS =
  'move its old -wal, -shm and -journal files away, on the host and in the container: SQLite would apply them to the restored file.';

/** Returns the error for a mounted file, which no rename can replace, although that is how a restore swaps files. */
export function singleFile({ source }: Mount): LifeboatError {
  return new LifeboatError('TREE_TARGET_REFUSED', `${source} is mounted as a single file, which cannot be swapped`, {
    hint: `Restore with --to-directory DIR. Then stop the service, and write the content of the file over the old one. If it is an SQLite database, first ${MOVE_LOGS}`,
  });
}

/** Returns what to do before a single SQLite file that was restored to a directory replaces the present one. */
export function oldLogWarnings(
  { source, toDirectory }: RestoreRequest,
  { files }: Pick<RestoreContext['entry'], 'files'>,
): string[] {
  if (toDirectory === undefined || files !== 1) return [];
  const [name] = readdirSync(toDirectory);
  if (name === undefined || !isSqliteAt(Buffer.from(path.join(toDirectory, name)))) return [];
  return [
    `${source} is an SQLite database. Before you write it over the present file, stop its service, and ${MOVE_LOGS}`,
  ];
}
