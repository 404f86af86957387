import { errorInfo, hasCode } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import { isUnusable, type Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';
import type { Tools } from '../server/tools.ts';
import { countRows } from './count-rows.ts';
import type { DatabaseFacts, TableFacts } from './facts.ts';
import { listTables } from './tables.ts';

/** What a restore would replace: the database as it is now, beside what was recorded of it. */
export interface PresentDatabase {
  name: string;
  /** bytes, of tables and indexes; undefined where that cannot be told */
  size?: number;
  tables: number;
  /** when not counted, what the planner estimates */
  rows: number;
  /** why rows were not counted, in words */
  uncounted?: string;
  /** rows that tables have more than then, and fewer, of those counted exactly both times */
  more: number;
  fewer: number;
  /** tables that the record does not have, `schema.name` */
  newTables: string[];
  /** what else to know of it, in words: what stays behind with it and has to be set up again */
  notes: string[];
}

/** What can be told of a database without reading its tables. */
const NOTHING_READ = { tables: 0, rows: 0, more: 0, fewer: 0, newTables: [], notes: [] };

/**
 * Looks at a database that is to be replaced. Changes nothing. One that is damaged or closed is what many restores are for: what
 * it does not tell is left out, and that is told.
 */
export async function describePresent(
  tools: Tools,
  name: string,
  recorded: DatabaseFacts,
  signal: AbortSignal,
): Promise<PresentDatabase> {
  const session = await tools.session(name, signal).catch((error: unknown) => {
    if (isUnusable(error)) return `nobody can connect to it: ${errorInfo(error).cause}`;
    throw error;
  });
  if (typeof session === 'string') return { ...NOTHING_READ, name, uncounted: session };
  try {
    const size = await told(session.one<{ size: string }>('SELECT pg_database_size(current_database())::text AS size'));
    const notes = (await told(attachments(session.all.bind(session)))) ?? [];
    const whole = { name, ...(size ? { size: Number(size.size) } : {}), notes };
    const read = await readUnlocked(session);
    if (typeof read === 'string')
      return { ...NOTHING_READ, ...(await told(estimate(session))), ...whole, uncounted: read };
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

/** Undefined where the server refuses to tell. */
async function told<T>(asked: Promise<T>): Promise<T | undefined> {
  return asked.catch((error: unknown) => {
    if (sqlState(error) === undefined) throw error;
    return undefined;
  });
}

/** How many tables are named that have more rows. */
const NAMED = 5;

/** Tables as they are beside those recorded. A sum would hide what is lost in one table behind what another one gains. */
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

/** How long counting waits for a lock that somebody holds, milliseconds. */
const LOCK_LIMIT_MS = 5000;

/** What keeps us from counting, in words: whoever restores at such a moment wants to go on. */
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

/** Throws what is not the server's own word. */
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

/** Slots and subscriptions belong to a database by its identity, not its name: they stay with what is put aside. */
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
      ({ name }) => `replication slot ${name} stays with the present data: make it anew, and drop the old one`,
    ),
    ...subscriptions.map(
      ({ name }) =>
        `subscription ${name} stays with the present data and goes on there: disable it, and enable the restored one`,
    ),
  ];
}

/**
 * Free space where the server keeps its data, in bytes, as `df` in the helper sees it; undefined where it cannot be told.
 * The helper must have been opened with the data's mounts.
 */
export async function freeDataSpace(tools: Tools, signal: AbortSignal): Promise<number | undefined> {
  try {
    const control = await tools.control();
    const { directory } = await control.one<{ directory: string }>(
      "SELECT current_setting('data_directory') AS directory",
    );
    const table = await tools.run(['df', '-Pk', '--', directory], signal);
    // POSIX: Filesystem, 1024-blocks, Used, Available, Capacity, Mounted on
    const available = table
      .trim()
      .split('\n')
      .at(-1)
      ?.match(/\s(\d+)\s+\d+%\s/)?.[1];
    return available === undefined ? undefined : Number(available) * 1024;
  } catch (error) {
    if (signal.aborted || hasCode(error, 'ENGINE_UNREACHABLE')) throw error;
    tools.log.debug('the free space of the server cannot be told', { error: String(error) });
    return undefined;
  }
}

/** Indexes are built from sorted files beside the data, and the log of changes grows: a restore needs more than its size. */
const SPACE_FACTOR = 1.2;
const SPACE_MARGIN = 64 * 1024 * 1024;

/** Bytes that databases of such sizes need while they are restored. */
export function neededSpace(sizes: readonly number[]): number {
  return Math.ceil(sizes.reduce((sum, size) => sum + size, 0) * SPACE_FACTOR) + SPACE_MARGIN;
}
