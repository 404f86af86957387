import { tablesWithRows } from '../archive/held-rows.ts';
import { emptyText } from '../facts/empty-tables.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { uncountedText } from '../facts/uncounted.ts';
import { compareDatabase } from '../load/compare-database.ts';
import { dropWorking, workingName } from '../load/swap.ts';
import type { Session } from '../server/session.ts';
import { buildTables } from './build-tables.ts';
import { copyTables } from './copy-tables.ts';
import type { LoadTablesOptions } from './load-options.ts';
import { makeLinks, privilegeWarnings } from './table-links.ts';
import { quoteName } from './table-names.ts';
import { type Shaped, shapeTables } from './table-shape.ts';

interface LoadedTables {
  tables: { schema: string; name: string; rows: number }[];
  warnings: string[];
}

const DROP_LIMIT_MS = 60_000;

/**
 * Restores tables of a dump into the live database, without changing existing objects. The tables are built in a
 * working database, compared with the record, renamed where a name is taken, and copied in one transaction. Foreign
 * keys and other links to existing tables follow one by one; a link that fails is a warning.
 *
 * @throws PG_TARGET_EXISTS, PG_RESTORE_FAILED, PG_STALLED; the errors of a session. The live database is unchanged
 * then.
 */
export async function loadTables(options: LoadTablesOptions): Promise<LoadedTables> {
  const { tools, target, signal, parts } = options;
  const working = workingName(target, 'restoring', options.id);
  const control = await tools.control();
  options.recordWorking({ name: working, what: 'restoring' });
  try {
    options.step(`restoring ${parts.tables.length === 1 ? 'the table' : 'the tables'} alongside, in ${working}`);
    const { moving, warnings: lacks } = await buildTables(options, control, working);
    const { empty } = await inDatabase(options, working, (session) =>
      compareDatabase(session, onlyTables(options), { moving }),
    );
    const held = await tablesWithRows(options.dump, empty);
    lacks.push(...empty.map((table) => emptyText(table, held.includes(table))));
    options.step('copying into the live database');
    const shaped = await inDatabase(options, working, (from) =>
      inDatabase(options, target, (live) => shapeTables(from, live, { tables: parts.tables, as: options.as })),
    );
    options.recordCopying(shaped.tables.map(({ schema, name }) => `${schema}.${name}`));
    const indexes = await copyTables(options, working, shaped, (name, work) => inDatabase(options, name, work));
    // The tables are restored. A later error is reported and reverses nothing.
    const links = await makeLinks(() => tools.session(target, signal), {
      ...{ recorded: options.recorded, parts, shaped, indexes },
      copy: options.as !== undefined,
    });
    const privileges = await inDatabase(options, working, (from) =>
      inDatabase(options, target, (live) => privilegeWarnings(from, live, shaped.tables)),
    ).catch((): string[] => []);
    const warnings = [...lacks, ...notCompared(options), ...shaped.warnings, ...links, ...privileges];
    return { tables: madeTables(options, shaped), warnings };
  } finally {
    // The signal of the run may be aborted.
    const outcome = await dropWorking(tools, { name: working, what: 'restoring' }, AbortSignal.timeout(DROP_LIMIT_MS));
    if (outcome === 'gone') options.forgetWorking(working);
  }
}

async function inDatabase<T>(
  { tools, signal }: LoadTablesOptions,
  name: string,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await tools.session(name, signal);
  try {
    return await work(session);
  } finally {
    await session.close();
  }
}

/** Returns the record of the database with these tables alone. */
function onlyTables({ recorded, parts }: LoadTablesOptions): DatabaseFacts {
  const names = new Set(parts.tables.map(quoteName));
  const tables = recorded.tables.filter((table) => names.has(quoteName(table)));
  // The working database lacks objects of other tables.
  const { objects: _, ...rest } = recorded;
  return { ...rest, tables, extensions: [], largeObjects: 0 };
}

function madeTables(options: LoadTablesOptions, { tables }: Shaped): LoadedTables['tables'] {
  const recorded = new Map(onlyTables(options).tables.map((table) => [quoteName(table), table.rows]));
  return tables
    .filter(({ chosen }) => chosen.root === chosen.entry.dumpId)
    .map(({ chosen, schema, name }) => {
      const own = options.parts.tables.filter(({ root }) => root === chosen.root);
      return { schema, name, rows: own.reduce((sum, table) => sum + (recorded.get(quoteName(table)) ?? 0), 0) };
    });
}

function notCompared(options: LoadTablesOptions): string[] {
  const names = onlyTables(options).tables.filter(({ exact, data }) => !exact && data !== false);
  return names.map(
    (table) => `the rows of ${table.schema}.${table.name} are not compared: it is a table ${uncountedText(table)}`,
  );
}
