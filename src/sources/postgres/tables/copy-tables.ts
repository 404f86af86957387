import path from 'node:path';
import { errorInfo, hasCode, LifeboatError } from '../../../base/errors.ts';
import { isUnqualified, type Lead, readLeads, searchPath } from '../load/lead-functions.ts';
import { SCRATCH } from '../server/helper-mounts.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { withWatchdog } from '../server/watchdog.ts';
import { namesOf } from './build-tables.ts';
import type { LoadTablesOptions } from './load-tables.ts';
import { copyTablesCommand } from './table-commands.ts';
import { checkFree, type Shaped } from './table-shape.ts';

/** An index to make after the table is there, and the functions that need a search_path meanwhile. */
export interface LaterIndex {
  what: string;
  sql: string;
  leads: Lead[];
}

/** Works in a session on a database of the server. */
type InDatabase = <T>(database: string, work: (session: Session) => Promise<T>) => Promise<T>;

/**
 * Copies tables from the working database into the one that people use, all or nothing. Where a function names something without
 * its schema, the tables are copied with the search_path of the database. From Postgres 17 on that does not reach the functions of
 * an index, so indexes on expressions are left out then.
 *
 * @returns indexes that are left out
 * @throws PG_TARGET_EXISTS, PG_RESTORE_FAILED, PG_NO_SPACE, PG_STALLED; those of a session
 */
export async function copyTables(
  options: LoadTablesOptions,
  working: string,
  { tables }: Shaped,
  inDatabase: InDatabase,
): Promise<LaterIndex[]> {
  const { tools, target, scratch, recorded } = options;
  const file = path.posix.join(scratch, SCRATCH, 'tables.dump');
  const copy = { from: working, to: target, file, tables, encoding: recorded.encoding };
  try {
    await run(options, copyTablesCommand(tools.connection, copy));
    return [];
  } catch (error) {
    // Somebody may have made it meanwhile.
    if (!options.signal.aborted) await inDatabase(target, (live) => checkFree(live, tables));
    if (!hasCode(error, 'EXEC_FAILED') || !wordsOf(error).some(isUnqualified)) throw copyError(options, error);
  }
  options.step('copying again: functions need the search_path of the database');
  const { later, schemas } = await inDatabase(working, async (session) => ({
    later: await takeIndexes(session, options, tables),
    schemas: (await readLeads(session, recorded)).map(({ schema }) => schema),
  }));
  const searched = [...new Set([...searchPath(recorded), ...schemas])];
  await run(options, copyTablesCommand(tools.connection, { ...copy, path: searched })).catch((error: unknown) => {
    throw copyError(options, error);
  });
  return later;
}

/** Drops indexes on expressions from the working database. Returns how to make them. */
async function takeIndexes(
  session: Session,
  { recorded }: LoadTablesOptions,
  tables: Shaped['tables'],
): Promise<LaterIndex[]> {
  const rows = await session.all<{ name: string; schema: string; sql: string; functions: string[] }>(
    `SELECT c.relname AS name, n.nspname AS schema, pg_get_indexdef(c.oid) AS sql,
            ARRAY(SELECT refobjid::text FROM pg_depend
                   WHERE classid = 'pg_class'::regclass AND objid = c.oid AND refclassid = 'pg_proc'::regclass) AS functions
       FROM unnest($1::text[], $2::text[]) w(s, t) JOIN pg_namespace n ON n.nspname = w.s
       JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = w.t JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class c ON c.oid = i.indexrelid
      WHERE (indexprs IS NOT NULL OR indpred IS NOT NULL) AND NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid)`,
    [tables.map(({ schema }) => schema), tables.map(({ name }) => name)],
  );
  const later: LaterIndex[] = [];
  for (const { name, schema, sql, functions } of rows) {
    const index = quoteIdentifier(name);
    const leads = await readLeads(session, recorded, functions);
    await session.run(`DROP INDEX ${quoteIdentifier(schema)}.${index}`);
    // The definition of a partitioned index leaves out those of the partitions.
    later.push({
      what: `index ${schema}.${name}`,
      sql: sql.replace(/^(CREATE (?:UNIQUE )?INDEX .*?) ON ONLY /, '$1 ON '),
      leads,
    });
  }
  return later;
}

async function run(options: LoadTablesOptions, command: string[]): Promise<void> {
  const { tools, signal, stallTimeoutMs } = options;
  const what = `the restore of ${namesOf(options)}`;
  await withWatchdog({ timeoutMs: stallTimeoutMs, pulses: [() => tools.activity()], signal, what }, (watched) =>
    tools.run(command, watched),
  );
}

/** What the server said. The message of EXEC_FAILED has the end of stderr as one line. */
function wordsOf(error: Error): string[] {
  return [...error.message.matchAll(/ERROR:\s+(.*?)(?=; |$)/g)].map(([, words]) => words as string);
}

function copyError(options: LoadTablesOptions, error: unknown): unknown {
  const { tools, target } = options;
  if (!hasCode(error, 'EXEC_FAILED')) return error;
  const what = `the restore of ${namesOf(options)}`;
  if (/No space left on device/.test(errorInfo(error).message)) {
    return new LifeboatError('PG_NO_SPACE', `${tools.container} ran out of space during ${what}`, {
      cause: error,
      hint: 'Make room first: `lifeboat status` shows what former restores keep. Nothing was changed.',
    });
  }
  const lacks = wordsOf(error).some((words) => / does not exist/.test(words));
  const why = lacks ? `Database ${target} lacks what the message names: create it, then try again. ` : '';
  return new LifeboatError('PG_RESTORE_FAILED', `${what} failed: it cannot be put into database ${target}`, {
    cause: error,
    hint: `${why}Nothing was changed. --to-database NAME restores the whole database under another name.`,
  });
}
