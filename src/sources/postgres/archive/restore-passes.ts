import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { hasCode } from '../../../base/errors.ts';
import { type ArchiveEntry, readArchive } from './archive.ts';

/** They fire, or are checked row by row, when rows come after them. */
const HEEDED = ['TRIGGER', 'FK CONSTRAINT'];
const REFRESH = 'MATERIALIZED VIEW DATA';
/** What `pg_restore` itself leaves for the end (_tocEntryRestorePass in pg_backup_archiver.c). */
const LAST = ['ACL', 'ACL LANGUAGE', 'DEFAULT ACL', 'EVENT TRIGGER', REFRESH];

/** One call of `pg_restore`. */
interface RestorePass {
  /** file for `--use-list`; absent: everything */
  list?: string;
  /** refreshes materialized views, and nothing else */
  refresh: boolean;
}

/**
 * In how many calls `pg_restore --jobs` has to bring a dump, with files for its `--use-list`. Its workers begin with a trigger
 * when the rows of the trigger's own table are there. A partitioned table has none of its own: the trigger is made at any
 * moment, and fires for rows of partitions that come later. Where a dump has such a one, it comes in a second call.
 * Materialized views are refreshed in a last one.
 *
 * @param dump the dump directory
 * @param scratch directory for the files, as the agent and the helper both see it
 * @param only dump ids of what to bring; absent: all
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

/** Takes the refreshing of materialized views out of all calls, into one more. */
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

/** Writes dump ids as `pg_restore --use-list` takes them. Resolves to the file. */
export async function writeList(file: string, ids: readonly number[]): Promise<string> {
  await writeFile(file, ids.map((id) => `${id};\n`).join(''), { mode: 0o600 });
  return file;
}

/** The ids of a list that `pg_restore --list` printed. */
export function listedIds(list: string): number[] {
  return [...list.matchAll(/^(\d+); /gm)].map(([, id]) => Number(id));
}

/** The entries of a dump directory; none for a format of tomorrow, which cannot be looked into. */
export async function readEntries(dump: string): Promise<ArchiveEntry[]> {
  try {
    return readArchive(await readFile(path.join(dump, 'toc.dat')));
  } catch (error) {
    if (hasCode(error, 'PG_VERSION')) return [];
    throw error;
  }
}

/** The ids of each call, undefined for all there is. */
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
