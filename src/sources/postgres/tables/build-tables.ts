import path from 'node:path';
import { LifeboatError } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import type { ArchiveEntry } from '../archive/archive.ts';
import { describeFailure, type Failure, failureText } from '../archive/restore-failures.ts';
import { readEntries, restorePasses, type Stage } from '../archive/restore-passes.ts';
import { type RunRestoreOptions, runRestore, TangledError } from '../archive/run-restore.ts';
import { createDatabase, createFailed } from '../load/create-database.ts';
import { dropDatabase } from '../load/drop-database.ts';
import { healFailures } from '../load/heal-failures.ts';
import { grantOneByOne } from '../load/heal-grants.ts';
import { checkRoles, rolesOfTables } from '../load/load-plan.ts';
import { loadedThroughRoot } from '../load/restore-allowance.ts';
import { SCRATCH } from '../server/helper-mounts.ts';
import type { Session } from '../server/session.ts';
import { withSession } from '../server/tools.ts';
import type { LoadTablesOptions } from './load-options.ts';
import { displayName } from './table-parts.ts';

/** The result of {@link buildTables}. */
interface BuiltTables {
  /** partitions whose rows may be in other partitions of their tree, see {@link loadedThroughRoot} */
  moving: Set<string>;
  /** about objects that the tables lack */
  warnings: string[];
}

/**
 * Builds the working database, with the definitions that tables may need and the rows of these tables. Fails only if
 * the server refuses an object that a table or its rows need. Other refused objects of a table, such as an index, are
 * warnings.
 *
 * @throws PG_RESTORE_FAILED, PG_NO_SPACE, PG_STALLED; the errors of a session
 */
export async function buildTables(options: LoadTablesOptions, control: Session, working: string): Promise<BuiltTables> {
  const { recorded, dump, care } = options;
  const entries = await readEntries(dump);
  const spaces = await missingTablespaces(options, control, entries);
  // The database is temporary, and the server may lack the recorded owner.
  const { owner } = await control.one<{ owner: string }>('SELECT current_user AS owner');
  const fill = async (jobs: number) => {
    await control
      .run(createDatabase(working, { ...recorded, owner }, control.versionNumber))
      .catch((error: unknown) => {
        throw createFailed(error, recorded);
      });
    await withSession(options, working, care.before);
    return fillTables(options, working, entries, { jobs, tablespaces: spaces.length === 0 });
  };
  const { failures, moved } = await fill(care.jobs).catch(async (error: unknown) => {
    if (!(error instanceof TangledError)) throw error;
    options.step('objects failed: restoring again with one worker, to find out which');
    await dropDatabase(options.tools, working, options.signal);
    return fill(1);
  });
  const missing = await checkRoles(control, rolesOfTables(recorded, options.parts));
  const session = () => options.tools.session(working, options.signal);
  const tables = new Set(options.parts.tables.map(({ entry }) => entry.dumpId));
  const ofTables = entries.filter(({ dependencies }) => dependencies.some((id) => tables.has(id)));
  const granted = await grantOneByOne(session, recorded.name, { entries: ofTables, missing, failures });
  const warnings = lacking(options, entries, granted.failures);
  await withSession(options, working, care.after);
  return {
    moving: new Set([...loadedThroughRoot(entries), ...moved]),
    warnings: [
      ...spaces.map(
        (name) => `the server has no tablespace ${name}: its objects are restored into the default tablespace`,
      ),
      ...granted.warnings,
      ...warnings,
    ],
  };
}

async function fillTables(
  options: LoadTablesOptions,
  working: string,
  entries: readonly ArchiveEntry[],
  { jobs, tablespaces }: { jobs: number; tablespaces: boolean },
): Promise<{ failures: Failure[]; moved: Set<string> }> {
  const { tools, recorded, parts, dump, scratch, signal, stallTimeoutMs } = options;
  const run: RunRestoreOptions = {
    ...{ tools, signal, stallTimeoutMs, jobs, tablespaces },
    ...{ about: namesOf(options), database: working, directory: dump, lists: scratch },
    scratch: path.posix.join(scratch, SCRATCH),
    async grows() {
      const { size } = await (await tools.control()).one<{ size: string }>(
        'SELECT pg_database_size($1)::text AS size',
        [working],
      );
      return size;
    },
  };
  const passes = await restorePasses(dump, scratch, parts.entries);
  const failures: Failure[] = [];
  const restore = async (wanted: (stage: Stage) => boolean) => {
    for (const { list } of passes.filter(({ stage }) => wanted(stage)))
      failures.push(...(await runRestore(run, list === undefined ? {} : { list })));
  };
  await restore((stage) => stage === 'load');
  const healed = await healFailures(run, recorded, entries, failures.splice(0));
  await restore((stage) => stage !== 'load');
  return { ...healed, failures: [...healed.failures, ...failures] };
}

/** Names the first few tables, for messages. */
export function namesOf({ parts }: LoadTablesOptions): string {
  const named = parts.tables.slice(0, 3).map(({ entry }) => displayName(entry));
  const more = parts.tables.length - named.length;
  return named.join(', ') + (more > 0 ? ` and ${plural(more, 'more table')}` : '');
}

/** Kinds of objects that are not part of a table. */
const OTHERS = ['TABLE', 'FOREIGN TABLE', 'VIEW', 'MATERIALIZED VIEW', 'FUNCTION', 'PROCEDURE', 'AGGREGATE'];

/** Warns of failed objects that belong to the tables. @throws PG_RESTORE_FAILED if a table itself or its rows failed */
function lacking(
  { recorded, parts, tools }: LoadTablesOptions,
  entries: readonly ArchiveEntry[],
  failures: readonly Failure[],
): string[] {
  const words = new Map(failures.map((failure) => [failure.dumpId, failure.words]));
  const tables = new Set(parts.tables.map(({ entry }) => entry.dumpId));
  const failed = entries.filter(({ dumpId }) => words.has(dumpId));
  const text = (entry: ArchiveEntry) =>
    failureText(describeFailure(recorded.name, entry, words.get(entry.dumpId) ?? ''));
  const ofTables = ({ dependencies }: ArchiveEntry) => dependencies.filter((id) => tables.has(id)).length;
  const essential = failed.filter((entry) => {
    if (entry.kind === 'TABLE') return tables.has(entry.dumpId);
    // An attachment between two of the tables.
    if (entry.kind === 'TABLE ATTACH') return ofTables(entry) > 1;
    return entry.kind === 'TABLE DATA' && ofTables(entry) > 0;
  });
  if (essential.length === 0) {
    const lost = failed.filter((entry) => ofTables(entry) > 0 && !OTHERS.includes(entry.kind));
    return lost.map((entry) => `the table is restored without ${text(entry)}`);
  }
  const needed = neededBy(entries, essential);
  const causes = failed.filter(({ dumpId }) => needed.has(dumpId)).slice(0, 3);
  throw new LifeboatError('PG_RESTORE_FAILED', `the restore failed: ${causes.map(text).join('; ')}`, {
    hint: `Nothing was changed. Create what the message names in ${tools.container}, then try again. \`restore … --to-directory DIR\` writes the dump itself.`,
  });
}

/** Returns the dump ids of some entries and of everything that they depend on. */
function neededBy(entries: readonly ArchiveEntry[], wanted: readonly ArchiveEntry[]): Set<number> {
  const byId = new Map(entries.map((entry) => [entry.dumpId, entry]));
  const needed = new Set(wanted.map(({ dumpId }) => dumpId));
  // The iteration over a set includes values that are added during it.
  for (const id of needed) for (const next of byId.get(id)?.dependencies ?? []) needed.add(next);
  return needed;
}

/** Returns the tablespaces of the restored objects that the server lacks. */
async function missingTablespaces(
  { parts }: LoadTablesOptions,
  control: Session,
  entries: readonly ArchiveEntry[],
): Promise<string[]> {
  const wanted = new Set(parts.entries);
  const used = new Set(entries.flatMap(({ dumpId, tablespace }) => (wanted.has(dumpId) ? (tablespace ?? []) : [])));
  if (used.size === 0) return [];
  const rows = await control.all<{ name: string }>('SELECT spcname AS name FROM pg_tablespace');
  return [...used].filter((name) => !rows.some((row) => row.name === name)).sort();
}
