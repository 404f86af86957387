import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { hasCode } from '../../../base/errors.ts';
import { type ArchiveEntry, readArchive } from './archive.ts';

/** Objects that fire or are checked for each row that is loaded after them. */
const HEEDED = ['TRIGGER', 'FK CONSTRAINT'];
const REFRESH = 'MATERIALIZED VIEW DATA';
/** Kinds that `pg_restore` itself restores last (_tocEntryRestorePass in pg_backup_archiver.c). */
const LAST = ['ACL', 'ACL LANGUAGE', 'DEFAULT ACL', 'EVENT TRIGGER', REFRESH];

/**
 * The stages of a restore, in order. `attach` makes foreign tables partitions: rows that are loaded through the
 * partitioned table before can not go to another server. `events` creates event triggers, which would fire for the
 * statements of all other stages.
 */
const STAGES = ['load', 'attach', 'refresh', 'events'] as const;
export type Stage = (typeof STAGES)[number];

/** One call of `pg_restore`. */
interface RestorePass {
  /** file for `--use-list`; absent: everything */
  list?: string;
  stage: Stage;
}

/**
 * Divides a dump into calls of `pg_restore --jobs`, and writes a file for `--use-list` for each. A worker creates a
 * trigger when the rows of the trigger's table are loaded. A partitioned table has no rows of its own, so its trigger
 * could come early and fire for rows of the partitions. Such triggers come in a second call. Each later stage is
 * another call.
 *
 * @param dump the dump directory
 * @param scratch directory for the files, as the agent and the helper both see it
 * @param only dump ids of the entries to restore; absent: all
 */
export async function restorePasses(dump: string, scratch: string, only?: readonly number[]): Promise<RestorePass[]> {
  const entries = await readEntries(dump);
  const passes = inStages(entries, passesFor(entries, only));
  return Promise.all(
    passes.map(async ({ ids, stage }, i) => {
      if (ids === undefined) return { stage };
      return { stage, list: await writeList(path.posix.join(scratch, `restore-${i}.list`), ids) };
    }),
  );
}

/** Moves the entries of later stages from all calls into calls of their own. */
export function inStages(
  entries: readonly ArchiveEntry[],
  passes: readonly (readonly number[] | undefined)[],
): { ids?: readonly number[]; stage: Stage }[] {
  const stages = laterStages(entries);
  if (stages.size === 0) return passes.map((ids) => ({ ...(ids ? { ids } : {}), stage: 'load' }));
  const all = passes.map((ids) => ids ?? entries.map(({ dumpId }) => dumpId));
  const later = STAGES.slice(1).map((stage) => ({ ids: all.flat().filter((id) => stages.get(id) === stage), stage }));
  const load = all.map((ids) => ({ ids: ids.filter((id) => !stages.has(id)), stage: STAGES[0] }));
  return [...load, ...later].filter(({ ids }) => ids.length > 0);
}

/**
 * Returns the stage of each entry that does not belong to the first one. Entries such as comments come with their
 * object.
 */
function laterStages(entries: readonly ArchiveEntry[]): Map<number, Stage> {
  const foreign = new Set(entries.filter(({ kind }) => kind === 'FOREIGN TABLE').map(({ dumpId }) => dumpId));
  const stages = new Map<number, Stage>();
  for (const { kind, dumpId, dependencies, definition } of entries) {
    const needs = (stage: Stage) => dependencies.some((id) => stages.get(id) === stage);
    // pg_dump 13 has no entry of its own for it. A partition gets the triggers of its partitioned table when it is
    // attached.
    const attaches =
      (['TABLE ATTACH', 'TRIGGER'].includes(kind) && dependencies.some((id) => foreign.has(id))) ||
      (kind === 'FOREIGN TABLE' && definition.includes(' ATTACH PARTITION '));
    if (kind === 'EVENT TRIGGER' || needs('events')) stages.set(dumpId, 'events');
    else if (kind === REFRESH) stages.set(dumpId, 'refresh');
    else if (attaches || needs('attach')) stages.set(dumpId, 'attach');
  }
  return stages;
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
