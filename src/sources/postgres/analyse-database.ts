import { isRefusal } from './count-rows.ts';
import { quoteIdentifier } from './quote.ts';
import type { Session } from './session.ts';
import { serverWords } from './sql-state.ts';
import type { Tools } from './tools.ts';
import { withWatchdog } from './watchdog.ts';

export interface AnalyseOptions {
  tools: Tools;
  database: string;
  /** how many tables at a time */
  jobs: number;
  stallTimeoutMs: number;
  signal: AbortSignal;
}

/** What came of {@link analyseDatabase}. */
export interface Analysed {
  tables: number;
  ms: number;
  warnings: string[];
}

/** Fewer tables than this for a session are done sooner than another session is opened. */
const TABLES_PER_SESSION = 8;

/**
 * Makes the planner's statistics of a database that was just filled (Postgres docs, ANALYZE): several tables at a time, the
 * largest first. A partitioned table comes with its partitions. A table that cannot be analysed is a warning.
 *
 * Errors: PG_STALLED; PG_UNREACHABLE.
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

interface Table {
  schema: string;
  name: string;
}

function listTables(session: Session): Promise<Table[]> {
  return session.all<Table>(
    `SELECT nspname AS schema, relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
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

/** Resolves to why the server refused it, if it did. */
async function analyse(session: Session, { schema, name }: Table): Promise<unknown> {
  const table = `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
  const run = (sql: string) =>
    session.run(sql).then(
      () => undefined,
      (error: unknown) => error,
    );
  const error = await run(`ANALYZE ${table}`);
  if (error === undefined) return undefined;
  // It may be gone by now, and its name may not be in the encoding of the session.
  const columns = await session
    .all<{ column: string }>(
      `SELECT quote_ident(attname) AS column FROM pg_attribute
        WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
      [table],
    )
    .catch((refused: unknown) => {
      if (!isRefusal(refused)) throw refused;
      return [];
    });
  if (columns.length === 0) return error;
  // With its columns named it passes over expressions of indexes, whose functions may need a search_path.
  const left = await run(`ANALYZE ${table} (${columns.map(({ column }) => column).join(', ')})`);
  return left === undefined ? undefined : error;
}
