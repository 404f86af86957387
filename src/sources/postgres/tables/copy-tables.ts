import path from 'node:path';
import { errorInfo, hasCode, LifeboatError } from '../../../base/errors.ts';
import { isUnqualified, readLeads, SIGNATURE, searchPath } from '../load/lead-functions.ts';
import { SCRATCH } from '../server/helper-mounts.ts';
import { NO_SPACE } from '../server/messages.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { withWatchdog } from '../server/watchdog.ts';
import { namesOf } from './build-tables.ts';
import { findOutcome, unknownOutcome } from './copy-outcome.ts';
import type { LoadTablesOptions } from './load-options.ts';
import { copyTablesCommand } from './table-commands.ts';
import type { Shaped } from './table-shape.ts';
import { checkFree } from './taken-names.ts';

/** An index to create after the copy. */
export interface LaterIndex {
  what: string;
  sql: string;
  /** signatures of the functions in its expressions, which may need a search_path */
  functions: string[];
}

/** Works in a session on a database of the server. */
type InDatabase = <T>(database: string, work: (session: Session) => Promise<T>) => Promise<T>;

/**
 * Copies tables from the working database into the live one, in one transaction. If a function names an object without
 * its schema, copies again with the search_path of the database. From Postgres 17 on, CREATE INDEX ignores that path,
 * so the second copy leaves out indexes on expressions. A copy that is committed although it was cut off is done. If
 * nobody knows whether it is, the hint of the error says so.
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
    await run(options, tables, copyTablesCommand(tools.connection, copy));
    return [];
  } catch (error) {
    // Somebody may have created the table in the meantime.
    if (!options.signal.aborted) await inDatabase(target, (live) => checkFree(live, tables));
    if (!hasCode(error, 'EXEC_FAILED') || !wordsOf(error).some(isUnqualified)) throw copyError(options, error);
  }
  options.step('copying again: functions need the search_path of the database');
  const { later, schemas } = await inDatabase(working, async (session) => ({
    later: await takeIndexes(session, tables),
    schemas: (await readLeads(session, recorded)).map(({ schema }) => schema),
  }));
  const searched = [...new Set([...searchPath(recorded), ...schemas])];
  await run(options, tables, copyTablesCommand(tools.connection, { ...copy, path: searched })).catch(
    (error: unknown) => {
      throw copyError(options, error);
    },
  );
  return later;
}

/** Drops indexes on expressions from the working database. Returns the statements that create them. */
async function takeIndexes(session: Session, tables: Shaped['tables']): Promise<LaterIndex[]> {
  const rows = await session.all<{ name: string; schema: string; sql: string; functions: string[] }>(
    `SELECT c.relname AS name, n.nspname AS schema, pg_get_indexdef(c.oid) AS sql,
            ARRAY(SELECT ${SIGNATURE} FROM pg_depend d
                    JOIN pg_proc p ON p.oid = d.refobjid JOIN pg_namespace n ON n.oid = p.pronamespace
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_proc'::regclass) AS functions
       FROM unnest($1::text[], $2::text[]) w(s, t) JOIN pg_namespace n ON n.nspname = w.s
       JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = w.t JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class c ON c.oid = i.indexrelid
      WHERE (indexprs IS NOT NULL OR indpred IS NOT NULL) AND NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid)`,
    [tables.map(({ schema }) => schema), tables.map(({ name }) => name)],
  );
  const later: LaterIndex[] = [];
  for (const { name, schema, sql, functions } of rows) {
    const index = quoteIdentifier(name);
    await session.run(`DROP INDEX ${quoteIdentifier(schema)}.${index}`);
    // The definition of an index on a partitioned table excludes the partitions.
    later.push({
      what: `index ${schema}.${name}`,
      sql: sql.replace(/^(CREATE (?:UNIQUE )?INDEX .*?) ON ONLY /, '$1 ON '),
      functions,
    });
  }
  return later;
}

/** Runs the copy. A copy that was cut off counts as done if it is in the live database. */
async function run(options: LoadTablesOptions, tables: Shaped['tables'], command: string[]): Promise<void> {
  const { tools, signal, stallTimeoutMs } = options;
  const what = `the restore of ${namesOf(options)}`;
  try {
    await withWatchdog({ timeoutMs: stallTimeoutMs, pulses: [() => tools.activity()], signal, what }, (watched) =>
      tools.run(command, watched),
    );
  } catch (error) {
    const isCutOff = signal.aborted || hasCode(error, 'PG_STALLED');
    const outcome = isCutOff ? await findOutcome(options, tables) : 'rolled back';
    if (outcome === 'unknown') throw unknownOutcome(error, tables);
    if (outcome === 'rolled back') throw error;
  }
}

/** Returns the server's message. The message of EXEC_FAILED has the end of stderr as one line. */
function wordsOf(error: Error): string[] {
  return [...error.message.matchAll(/ERROR:\s+(.*?)(?=; |$)/g)].map(([, words]) => words as string);
}

function copyError(options: LoadTablesOptions, error: unknown): unknown {
  const { tools, target } = options;
  if (!hasCode(error, 'EXEC_FAILED')) return error;
  const what = `the restore of ${namesOf(options)}`;
  if (NO_SPACE.test(errorInfo(error).message)) {
    return new LifeboatError('PG_NO_SPACE', `${tools.container} ran out of space during ${what}`, {
      cause: error,
      hint: 'Free space first: `lifeboat status` shows the data that earlier restores put aside. Nothing was changed.',
    });
  }
  const lacks = wordsOf(error).some((words) => / does not exist/.test(words));
  const why = lacks ? `Database ${target} lacks what the message names: create it, then try again. ` : '';
  return new LifeboatError('PG_RESTORE_FAILED', `${what} failed: it cannot be put into database ${target}`, {
    cause: error,
    hint: `${why}Nothing was changed. --to-database NAME restores the whole database under another name.`,
  });
}
