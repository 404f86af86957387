import { readdirSync } from 'node:fs';
import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import type { Mount, VolumeSource } from '../plan/model.ts';
import { restoreCommand } from '../report/restore-command.ts';
import { HELPER_ROOT } from '../sources/volume.ts';
import { isSqliteAt } from '../store/sqlite/sqlite-file.ts';
import type { PreparedRestore, RestoreContext, RestoreDeps, RestoreRequest } from './context.ts';

/**
 * SQLite applies the log that it finds next to a database, whatever the database is (sqlite.org/howtocorrupt.html,
 * section 1.4). With a single mounted file, the log may be in the container, out of Lifeboat's reach.
 */
const MOVE_LOGS =
  'move its old -wal, -shm and -journal files away, on the host and in the container: SQLite would apply them to the restored file.';

/**
 * Prepares a restore of a single mounted file. If it equals the snapshot, there is nothing to restore. Otherwise the
 * restore is refused: no rename can replace a mounted file, and a write in place that is interrupted would leave a file
 * that is neither old nor new.
 *
 * @throws TREE_TARGET_REFUSED, TREE_UNREADABLE
 */
export async function prepareFile(
  deps: Pick<RestoreDeps, 'treeStore'>,
  request: RestoreRequest,
  context: RestoreContext,
  { planned, indexPath }: { planned: VolumeSource; indexPath: string },
): Promise<PreparedRestore> {
  const { mount } = planned;
  const { isEqual, isDatabase } = await deps.treeStore.volume(
    { kind: 'compare-file', root: HELPER_ROOT, name: path.posix.basename(mount.destination), indexPath },
    {
      ...{ reach: { kind: 'helper', mount }, runId: context.id, journal: context.journal.file },
      ...{ signal: request.signal, progress: context.progress },
    },
  );
  if (!isEqual) throw singleFile(mount, { ...request, snapshot: context.snapshot.id }, isDatabase);
  const notes = [`${mount.source} is equal to the snapshot already`];
  return {
    preview: { target: planned, replaces: [], creates: [], left: [], bytes: 0, notes },
    swap: () => Promise.resolve({ restored: [], warnings: [] }),
    close: () => Promise.resolve(),
  };
}

function singleFile({ source }: Mount, request: RestoreRequest, isDatabase: boolean): LifeboatError {
  const { snapshot, source: name } = request;
  const command = restoreCommand(request, snapshot, name, `--to-directory /restored/${name}`);
  const first = isDatabase ? ` First stop its service, and ${MOVE_LOGS}` : '';
  return new LifeboatError(
    'TREE_TARGET_REFUSED',
    `${source} differs from the snapshot, and is mounted as a single file, which cannot be swapped`,
    { hint: `Restore it with \`${command}\`, and write its content over the present file.${first}` },
  );
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
