import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import { restoreTarget } from '../kept/target.ts';
import { formatBytes, plural } from '../report/format.ts';
import { type ArchiveEntry, readArchive } from '../sources/postgres/archive/archive.ts';
import { restoreJobs } from '../sources/postgres/dump/jobs.ts';
import type { DatabaseFacts, PostgresFacts, TableFacts } from '../sources/postgres/facts/facts.ts';
import { neededSpace } from '../sources/postgres/facts/present.ts';
import { careFor, type ExtensionCare } from '../sources/postgres/load/extensions.ts';
import { checkRoles, checkVersion, recordedDatabase, rolesOfTables } from '../sources/postgres/load/load-plan.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import { databaseDirectory } from '../sources/postgres/server/quote.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { refuseStrangeFiles } from '../sources/postgres/strange-files.ts';
import { loadTables } from '../sources/postgres/tables/load-tables.ts';
import { quoteName, readNewName } from '../sources/postgres/tables/table-names.ts';
import { displayName, findTable, partsOf, type TableParts } from '../sources/postgres/tables/table-parts.ts';
import { checkFree } from '../sources/postgres/tables/taken-names.ts';
import { checkDataSpace, readFacts, roomInSpool, selectedContent } from './content.ts';
import type {
  PreparedRestore,
  RestoreContext,
  RestoreDeps,
  Restored,
  RestorePreview,
  RestoreRequest,
} from './context.ts';
import { fetchTree } from './fetch.ts';

/** The endings that pg_dump adds to the file names of the table of contents. */
const SUFFIXES = ['', '.zst', '.gz', '.lz4'];

/** The requested tables of one recorded database. */
interface Chosen {
  recorded: DatabaseFacts;
  care: ExtensionCare;
  parts: TableParts;
  /** paths of the tree to fetch */
  select: string[];
}

/**
 * Prepares a restore of single tables into the live database, which replaces nothing. Reads only the tables of contents
 * of the snapshot to decide, and only the rows of these tables to restore them.
 *
 * @throws USAGE, PG_TABLE_UNKNOWN, PG_DATABASE_UNKNOWN, PG_TARGET_EXISTS, PG_VERSION, PG_NO_SPACE, PG_RESTORE_FAILED,
 * before anything changes
 */
export async function prepareTables(
  deps: RestoreDeps,
  asked: RestoreRequest,
  context: RestoreContext,
): Promise<PreparedRestore> {
  refuseOptions(asked);
  await context.repository.checkObjects([context.entry.index, context.entry.facts]);
  const facts = await readFacts(asked, context);
  const chosen = await chooseTables(deps, asked, context, facts);
  const request =
    asked.as === undefined ? asked : { ...asked, as: readNewName(asked.as, chosen.parts.tables[0]?.schema ?? '') };
  const content = await selectedContent(request, context, chosen.select);
  const { bytes, packs } = content;
  await context.repository.checkObjects(packs);
  const spool = await roomInSpool(context, content);
  const planned = await restoreTarget(deps, request.to ?? request.source, 'postgres');
  const { id, journal } = context;
  const { signal, say } = request;
  const application = applicationName(deps.project, id);
  const share = { directory: context.directory, access: 'read-only' as const };
  const tools = await deps.openTools(planned, { runId: id, application, journal, withData: true, share, signal, say });
  try {
    const preview = await look(tools, request, facts, chosen);
    const tree = path.join(context.directory, 'tree');
    return {
      preview: { ...preview, target: planned, bytes, spool },
      fetch: async () => {
        request.say(`  fetching ${formatBytes(bytes)}`);
        await fetchTree({ deps, request, context, directory: tree, select: chosen.select });
        await refuseStrangeFiles(tree, 'PG_RESTORE_FAILED');
      },
      swap: () => load(deps, request, context, { tools, chosen, tree }),
      close: () => tools.close(),
    };
  } catch (error) {
    await tools.close();
    throw error;
  }
}

function refuseOptions({ tables, as, paths, toDirectory, toDatabase, globals, skipFailed }: RestoreRequest): void {
  const refuse = (message: string, hint: string) => {
    throw new LifeboatError('USAGE', message, { hint });
  };
  if (tables.length === 0) refuse('--as is a name for one table', 'Name the table with --table schema.name.');
  if (as !== undefined && tables.length > 1) refuse('--as is a name for one table', 'Restore them one by one.');
  if (paths.length > 0) refuse('--path is for files, --table for databases', 'Leave one of them out.');
  if (toDirectory !== undefined) {
    refuse('--table goes into the live database', 'Without --table, --to-directory writes the whole dump.');
  }
  if (toDatabase !== undefined) {
    refuse('--table goes into the live database', 'Choose another name for the table with --as NAME.');
  }
  if (skipFailed)
    refuse('--skip-failed is for whole databases', 'Leave it out: --table restores each table on its own.');
  if (globals) refuse('--globals creates no roles for single tables', 'Restore the database, or create them by hand.');
}

/** Finds the tables in the one database that has all of them. */
async function chooseTables(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
  facts: PostgresFacts,
): Promise<Chosen> {
  const databases =
    request.database === undefined
      ? facts.databases.filter(({ contents }) => contents === 'data')
      : [recordedDatabase(facts, request.database)];
  const tocs = databases.map(({ name }) => `databases/${databaseDirectory(name)}/toc.dat`);
  const { packs } = await selectedContent(request, context, tocs);
  await context.repository.checkObjects(packs);
  const directory = path.join(context.directory, 'contents');
  if (tocs.length > 0) {
    await fetchTree({ deps, request, context, directory, select: tocs });
    await refuseStrangeFiles(directory, 'PG_RESTORE_FAILED');
  }
  const having: { recorded: DatabaseFacts; entries: ArchiveEntry[]; roots: ArchiveEntry[] }[] = [];
  let why: unknown;
  for (const [i, recorded] of databases.entries()) {
    const entries = readArchive(await readFile(path.join(directory, tocs[i] as string)));
    try {
      having.push({ recorded, entries, roots: request.tables.map((asked) => findTable(entries, asked)) });
    } catch (error) {
      why ??= error;
    }
  }
  const [one, ...others] = having;
  if (!one) throw why ?? new LifeboatError('PG_TABLE_UNKNOWN', 'the snapshot has no tables');
  if (others.length > 0) {
    const names = having.map(({ recorded }) => recorded.name).join(', ');
    throw new LifeboatError('USAGE', `several databases have ${request.tables.join(', ')}: ${names}`, {
      hint: 'Choose one with --database NAME.',
    });
  }
  const care = careFor(one.recorded, restoreJobs());
  const parts = partsOf(one.entries, one.roots, { copy: request.as !== undefined, without: care.leftOut });
  const place = `databases/${databaseDirectory(one.recorded.name)}`;
  // Only names that pg_dump writes: a name from a table of contents must not act as a pattern.
  const files = parts.files.filter((file) => /^\d+\.dat$/.test(file));
  const select = [`${place}/toc.dat`, ...files.flatMap((file) => SUFFIXES.map((end) => `${place}/${file}${end}`))];
  return { recorded: one.recorded, care, parts, select };
}

async function look(
  tools: Tools,
  request: RestoreRequest,
  facts: PostgresFacts,
  { recorded, parts }: Chosen,
): Promise<RestorePreview> {
  const { signal } = request;
  const control = await tools.control();
  checkVersion(control, facts, tools.container);
  const [existing] = await control.all('SELECT FROM pg_database WHERE datname = $1', [recorded.name]);
  if (!existing) {
    throw new LifeboatError('PG_DATABASE_UNKNOWN', `${tools.container} has no database ${recorded.name}`, {
      hint: 'Restore the whole database, without --table. Nothing was changed.',
    });
  }
  await checkRoles(control, rolesOfTables(recorded, parts));
  const live = await tools.session(recorded.name, signal);
  const [first] = parts.tables;
  const as = request.as;
  await checkFree(live, as === undefined || !first ? parts.tables : [{ schema: first.schema, name: as }]).finally(() =>
    live.close(),
  );
  const needed = neededSpace(recordedTables(recorded, parts).map(({ bytes }) => 2 * bytes));
  const space = await checkDataSpace(tools, { needed, why: 'the restore' }, signal);
  return {
    replaces: [],
    creates: describe(request, recorded, parts),
    left: [],
    bytes: 0,
    space,
    notes: recordedTables(recorded, parts)
      .filter(({ data }) => data === false)
      .map(
        ({ schema, name }) => `the snapshot does not hold the rows of ${schema}.${name}: the table is restored empty`,
      ),
  };
}

function recordedTables(recorded: DatabaseFacts, { tables }: TableParts): TableFacts[] {
  const names = new Set(tables.map(quoteName));
  return recorded.tables.filter((table) => names.has(quoteName(table)));
}

function describe({ as }: RestoreRequest, { name: database }: DatabaseFacts, { tables }: TableParts): string[] {
  return tables
    .filter(({ root, entry }) => root === entry.dumpId)
    .map(({ schema, root, entry }) => {
      const partitions = tables.filter((table) => table.root === root).length - 1;
      const more = partitions === 0 ? '' : `, with ${plural(partitions, 'partition')}`;
      const what = as === undefined ? displayName(entry) : `${schema}.${as}, as ${displayName(entry)} was`;
      return `table ${what}, in database ${database}${more}`;
    });
}

/** Returns the statement that drops the restored tables. Their partitions go with them. */
export function undoText(database: string, { tables }: Pick<TableParts, 'tables'>, as: string | undefined): string {
  const roots = tables.filter(({ root, entry }) => root === entry.dumpId);
  const names = roots.map(({ schema, name }) => quoteName({ schema, name: as ?? name }));
  return `DROP TABLE ${names.join(', ')} in database ${database}`;
}

async function load(
  deps: RestoreDeps,
  request: RestoreRequest,
  { id, journal, directory }: RestoreContext,
  { tools, chosen, tree }: { tools: Tools; chosen: Chosen; tree: string },
): Promise<Restored> {
  const { recorded, parts, care } = chosen;
  const source = request.to ?? request.source;
  const { tables, warnings } = await loadTables({
    tools,
    recorded,
    parts,
    target: recorded.name,
    ...(request.as === undefined ? {} : { as: request.as }),
    dump: path.join(tree, 'databases', databaseDirectory(recorded.name)),
    scratch: directory,
    id: id.slice(-6),
    care,
    stallTimeoutMs: deps.stallTimeoutMs,
    signal: request.signal,
    step: (text) => request.say(`  ${text}`),
    recordCopying: (tables) => journal.record({ type: 'copying', tables }),
    recordWorking: (working) => journal.record({ type: 'database', source, ...working }),
    forgetWorking: (name) => journal.record({ type: 'database-done', source, name }),
  });
  for (const { schema, name, rows } of tables) {
    request.say(`  table ${schema}.${name} is restored: ${plural(rows, 'row')}`);
  }
  const restored = tables.map(({ schema, name, rows }) => ({ target: `${recorded.name}: ${schema}.${name}`, rows }));
  return { restored, warnings, undo: undoText(recorded.name, parts, request.as) };
}
