import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { hasCode } from '../../../base/errors.ts';
import { type ArchiveEntry, readArchive } from './archive.ts';

/** Objects that fire or are checked for each row that is loaded after them. */
const HEEDED = ['TRIGGER', 'FK CONSTRAINT'];
const REFRESH = 'MATERIALIZED VIEW DATA';
/** Kinds that `pg_restore` itself restores last (_tocEntryRestorePass in pg_backup_archiver.c). */
const LAST = ['ACL', 'ACL LANGUAGE', 'DEFAULT ACL', 'EVENT TRIGGER', REFRESH];

/** One call of `pg_restore`. */
interface RestorePass {
  /** file for `--use-list`; absent: everything */
  list?: string;
  /** refreshes materialized views, and nothing else */
  refresh: boolean;
}

/**
 * Divides a dump into calls of `pg_restore --jobs`, and writes a file for `--use-list` for each. A worker creates a trigger when the
 * rows of the trigger's table are loaded. A partitioned table has no rows of its own, so its trigger could come early and fire for rows
 * of the partitions. Such triggers come in a second call. Materialized views are refreshed in a last call.
 *
 * @param dump the dump directory
 * @param scratch directory for the files, as the agent and the helper both see it
 * @param only dump ids of the entries to restore; absent: all
 */
export async function restorePasses(dump: string, scratch: string, only?: readonly number[]): Promise<RestorePass[]> {
  const entries = await readEntries(dump);
  const passes = refreshLast(entries, passesFor(entries, only));
  return Promise.all(
    passes.map(async ({ ids, refresh }, i) => {
      if (ids === undefined) return { refresh };
      return { refresh, list: await writeList(path.posix.join(scratch, `restore-${i}.list`), ids) };
    }),
  );
}

/** Moves the refreshes of materialized views from all calls into an additional one. */
export function refreshLast(
  entries: readonly ArchiveEntry[],
  passes: readonly (readonly number[] | undefined)[],
): { ids?: readonly number[]; refresh: boolean }[] {
  const refreshing = new Set(entries.filter(({ kind }) => kind === REFRESH).map(({ dumpId }) => dumpId));
  if (refreshing.size === 0) return passes.map((ids) => ({ ...(ids ? { ids } : {}), refresh: false }));
  const all = passes.map((ids) => ids ?? entries.map(({ dumpId }) => dumpId));
  const last = all.flat().filter((id) => refreshing.has(id));
  return [
    ...all.map((ids) => ({ ids: ids.filter((id) => !refreshing.has(id)), refresh: false })),
    { ids: last, refresh: true },
  ].filter(({ ids }) => ids.length > 0);
}

/** Writes dump ids in the format of `pg_restore --use-list`. Resolves to the file. */
export async function writeList(file: string, ids: readonly number[]): Promise<string> {
  await writeFile(file, ids.map((id) => `${id};\n`).join(''), { mode: 0o600 });
  return file;
}

/** Returns the dump ids in the output of `pg_restore --list`. */
export function listedIds(list: string): number[] {
  return [...list.matchAll(/^(\d+); /gm)].map(([, id]) => Number(id));
}

/** Reads the entries of a dump directory; none for an unknown format. */
export async function readEntries(dump: string): Promise<ArchiveEntry[]> {
  try {
    return readArchive(await readFile(path.join(dump, 'toc.dat')));
  } catch (error) {
    if (hasCode(error, 'PG_VERSION')) return [];
    throw error;
  }
}

/** Returns the dump ids of each call; undefined for all entries. */
export function passesFor(
  entries: readonly ArchiveEntry[],
  only?: readonly number[],
): (readonly number[] | undefined)[] {
  const filled = new Set(entries.filter(({ kind }) => kind === 'TABLE DATA').flatMap((entry) => entry.dependencies));
  const without = entries.filter(({ kind, dumpId }) => kind === 'TABLE' && !filled.has(dumpId));
  const empty = new Set(without.map(({ dumpId }) => dumpId));
  const early = entries.filter(
    ({ kind, dependencies }) => HEEDED.includes(kind) && dependencies.some((id) => empty.has(id)),
  );
  if (early.length === 0) return [only];
  const late = new Set(early.map(({ dumpId }) => dumpId));
  for (const { kind, dumpId, dependencies } of entries) {
    if (LAST.includes(kind) || dependencies.some((id) => late.has(id))) late.add(dumpId);
  }
  const wanted = only ?? entries.map(({ dumpId }) => dumpId);
  return [wanted.filter((id) => !late.has(id)), wanted.filter((id) => late.has(id))].filter(({ length }) => length > 0);
}
