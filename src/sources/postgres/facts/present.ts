import { errorInfo } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import { isUnusable, type Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';
import type { Tools } from '../server/tools.ts';
import { countRows } from './count-rows.ts';
import type { DatabaseFacts, TableFacts } from './facts.ts';
import { listTables } from './tables.ts';

/** The database that a restore would replace, compared with its recorded facts. */
export interface PresentDatabase {
  name: string;
  /** bytes, of tables and indexes; undefined if unknown */
  size?: number;
  tables: number;
  /** the planner's estimate if the rows were not counted */
  rows: number;
  /** why rows were not counted, in words */
  uncounted?: string;
  /**
   * by how many rows tables have grown since the snapshot, and shrunk; only tables that were counted exactly both times
   */
  more: number;
  fewer: number;
  /** tables that the snapshot does not have, `schema.name` */
  newTables: string[];
  /** notes for the user: changed tables, and attachments that have to be set up again */
  notes: string[];
}

/** The values for a database whose tables were not read. */
const NOTHING_READ = { tables: 0, rows: 0, more: 0, fewer: 0, newTables: [], notes: [] };

/**
 * Describes a database that a restore is about to replace. Changes nothing. Many restores replace a damaged or closed
 * database, so values that cannot be read are left out, and `uncounted` says why.
 */
export async function describePresent(
  tools: Tools,
  name: string,
  recorded: Pick<DatabaseFacts, 'tables'>,
  signal: AbortSignal,
): Promise<PresentDatabase> {
  const session = await tools.session(name, signal).catch((error: unknown) => {
    if (isUnusable(error)) return `nobody can connect to it: ${errorInfo(error).cause}`;
    throw error;
  });
  if (typeof session === 'string') return { ...NOTHING_READ, name, uncounted: session };
  try {
    const size = await unlessRefused(
      session.one<{ size: string }>('SELECT pg_database_size(current_database())::text AS size'),
    );
    const notes = (await unlessRefused(attachments(session.all.bind(session)))) ?? [];
    const whole = { name, ...(size ? { size: Number(size.size) } : {}), notes };
    const read = await readUnlocked(session);
    if (typeof read === 'string')
      return { ...NOTHING_READ, ...(await unlessRefused(estimate(session))), ...whole, uncounted: read };
    const { more, fewer, newTables, changed } = compareRows(read.tables, recorded);
    return {
      ...whole,
      tables: read.tables.length,
      rows: read.tables.reduce((sum, { rows }) => sum + rows, 0),
      more,
      fewer,
      newTables,
      notes: [...changed, ...notes],
    };
  } finally {
    await session.close();
  }
}

/** Returns undefined if the server refuses the query. */
async function unlessRefused<T>(asked: Promise<T>): Promise<T | undefined> {
  return asked.catch((error: unknown) => {
    if (sqlState(error) === undefined) throw error;
    return undefined;
  });
}

/** The most tables with more rows that a note names. */
const NAMED = 5;

/**
 * Compares the rows of each table with the recorded ones. A single sum could hide losses of one table behind gains of
 * another.
 */
export function compareRows(tables: readonly TableFacts[], recorded: Pick<DatabaseFacts, 'tables'>) {
  const then = new Map(recorded.tables.map((table) => [`${table.schema}.${table.name}`, table]));
  let [more, fewer] = [0, 0];
  const newTables: string[] = [];
  const grown: string[] = [];
  for (const table of tables.filter(({ extension }) => extension === undefined)) {
    const key = `${table.schema}.${table.name}`;
    const before = then.get(key);
    then.delete(key);
    if (!before) newTables.push(key);
    if (!table.exact || before?.exact === false || before?.data === false) continue;
    const difference = table.rows - (before?.rows ?? 0);
    if (difference < 0) fewer -= difference;
    if (difference <= 0) continue;
    more += difference;
    if (before) grown.push(`${key} has ${difference} more`);
  }
  for (const gone of then.values())
    if (gone.exact && gone.extension === undefined && gone.data !== false) fewer += gone.rows;
  const others = grown.length > NAMED ? [`${plural(grown.length - NAMED, 'more table')} too`] : [];
  const named = [...grown.slice(0, NAMED), ...others].join(', ');
  return { more, fewer, newTables, changed: grown.length === 0 ? [] : [`rows: ${named}`] };
}

/** Counting waits this long for a lock that somebody holds, milliseconds. */
const LOCK_LIMIT_MS = 5000;

/** Lists and counts tables. Returns the reason in words if that fails, because the restore should go on even so. */
async function readUnlocked(session: Session): Promise<{ tables: TableFacts[] } | string> {
  await session.run('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    await session.run(`SET LOCAL lock_timeout = ${LOCK_LIMIT_MS}`);
    const { tables } = await listTables(session);
    const exact = tables.filter((table) => table.exact);
    const [refused] = await countRows(session, exact, { stopAtRefusal: true });
    return refused ? whyUncounted(refused.error) : { tables };
  } catch (error) {
    return whyUncounted(error);
  } finally {
    await session.run('ROLLBACK').catch(() => undefined);
  }
}

/** Describes why the server refused to count. Throws any error that did not come from the server. */
function whyUncounted(error: unknown): string {
  const state = sqlState(error);
  if (state === undefined) throw error;
  return state === '55P03' ? 'a session holds a lock' : `reading it fails with SQLSTATE ${state}`;
}

async function estimate(session: Session): Promise<Pick<PresentDatabase, 'tables' | 'rows'>> {
  const { tables, rows } = await session.one<Record<'tables' | 'rows', string>>(
    `SELECT count(*)::text AS tables, coalesce(sum(greatest(reltuples, 0)), 0)::bigint::text AS rows
       FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'`,
  );
  return { tables: Number(tables), rows: Number(rows) };
}

/**
 * Returns notes about the replication slots and subscriptions of the session's database. They belong to its identity,
 * not its name, so they stay with the old database.
 */
async function attachments(all: <T extends object>(sql: string) => Promise<T[]>): Promise<string[]> {
  const slots = await all<{ name: string }>(
    'SELECT slot_name AS name FROM pg_replication_slots WHERE database = current_database() ORDER BY 1',
  );
  const subscriptions = await all<{ name: string }>(
    `SELECT subname AS name FROM pg_subscription
      WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1`,
  );
  return [
    ...slots.map(
      ({ name }) => `replication slot ${name} stays with the present data: create it again, and drop the old one`,
    ),
    ...subscriptions.map(
      ({ name }) =>
        `subscription ${name} stays with the present data and continues there: disable it, and enable the restored one`,
    ),
  ];
}

/** A restore needs more space than its size: building an index writes sorted files, and the write-ahead log grows. */
const SPACE_FACTOR = 1.2;
const SPACE_MARGIN = 64 * 1024 * 1024;

/** Returns the bytes that databases of these sizes need during a restore. */
export function neededSpace(sizes: readonly number[]): number {
  return Math.ceil(sizes.reduce((sum, size) => sum + size, 0) * SPACE_FACTOR) + SPACE_MARGIN;
}
