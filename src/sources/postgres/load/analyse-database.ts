import { isRefusal } from '../facts/count-rows.ts';
import type { Session } from '../server/session.ts';
import { serverWords } from '../server/sql-state.ts';
import type { Tools } from '../server/tools.ts';
import { withWatchdog } from '../server/watchdog.ts';

interface AnalyseOptions {
  tools: Tools;
  database: string;
  /** how many tables are analysed at the same time */
  jobs: number;
  stallTimeoutMs: number;
  signal: AbortSignal;
}

/** The result of {@link analyseDatabase}. */
interface Analysed {
  tables: number;
  ms: number;
  warnings: string[];
}

/** Opening another session takes longer than analysing fewer tables than this. */
const TABLES_PER_SESSION = 8;

/**
 * Creates the planner's statistics of a restored database (Postgres docs, ANALYZE), for several tables at the same
 * time, the largest first. A partitioned table includes its partitions. A table that cannot be analysed is a warning.
 *
 * @throws PG_STALLED, PG_UNREACHABLE
 */
export async function analyseDatabase(options: AnalyseOptions): Promise<Analysed> {
  const { tools, database, signal, stallTimeoutMs } = options;
  const begin = performance.now();
  const warnings: string[] = [];
  const work = async (watched: AbortSignal): Promise<number> => {
    const first = await tools.session(database, watched);
    const sessions = [first];
    try {
      const tables = await listTables(first);
      const queue = tables.values();
      const more = Math.min(options.jobs, Math.ceil(tables.length / TABLES_PER_SESSION)) - 1;
      for (let i = 0; i < more; i++) sessions.push(await tools.session(database, watched));
      await Promise.all(sessions.map((session) => analyseAll(session, queue, warnings)));
      return tables.length;
    } finally {
      await Promise.all(sessions.map((session) => session.close()));
    }
  };
  const what = `the analysis of ${database}`;
  const pulses = [() => tools.activity()];
  const tables = await withWatchdog({ timeoutMs: stallTimeoutMs, pulses, signal, what }, work);
  return { tables, ms: Math.round(performance.now() - begin), warnings };
}

/**
 * `id`: its OID. The names are only for messages: in an SQL_ASCII database, a name may hold bytes that are no valid
 * text.
 */
interface Table {
  id: string;
  schema: string;
  name: string;
}

function listTables(session: Session): Promise<Table[]> {
  return session.all<Table>(
    `SELECT c.oid::text AS id, nspname AS schema, relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind IN ('r', 'p', 'm') AND NOT relispartition AND relispopulated AND relpersistence <> 't'
        AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'
      ORDER BY relkind = 'p' DESC, pg_relation_size(c.oid) DESC`,
  );
}

async function analyseAll(session: Session, queue: Iterable<Table>, warnings: string[]): Promise<void> {
  for (const table of queue) {
    const error = await analyse(session, table);
    if (error === undefined) continue;
    if (!isRefusal(error)) throw error;
    warnings.push(`table ${table.schema}.${table.name} could not be analysed: ${serverWords(error) ?? String(error)}`);
  }
}

/** Resolves to the error if the server refuses the statement. */
async function analyse(session: Session, { id }: Table): Promise<unknown> {
  const run = (sql: string) =>
    session.run(sql).then(
      () => undefined,
      (error: unknown) => error,
    );
  const error = await run(analyseStatement(id, ''));
  if (error === undefined || !isRefusal(error)) return error;
  // With a list of columns, ANALYZE skips expressions of indexes, whose functions may need a search_path.
  const columns = `SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum) FROM pg_attribute
                    WHERE attrelid = ${id} AND attnum > 0 AND NOT attisdropped`;
  const left = await run(analyseStatement(id, ` || ' (' || (${columns}) || ')'`));
  return left === undefined ? undefined : error;
}

/** The server itself builds the statement, so no name passes through the encoding of the client. */
function analyseStatement(id: string, more: string): string {
  return `DO $lifeboat$ BEGIN EXECUTE (SELECT 'ANALYZE ' || format('%I.%I', nspname, relname)${more}
     FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = ${id}); END $lifeboat$`;
}
