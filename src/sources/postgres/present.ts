import { LifeboatError } from '../../errors.ts';
import { type DatabaseFacts, readTables, type TablesRead } from './facts.ts';
import { type Session, sqlState } from './session.ts';
import type { Tools } from './tools.ts';

/** What a restore would replace: the database as it is now, beside what was recorded of it. */
export interface PresentDatabase {
  name: string;
  /** bytes, of tables and indexes */
  size: number;
  tables: number;
  /** when not counted, what the planner estimates */
  rows: number;
  /** false when somebody held a lock that kept us from counting */
  counted: boolean;
  /** rows now less rows then, of tables counted exactly both times */
  moreRows: number;
  /** tables that the record does not have, `schema.name` */
  newTables: string[];
  /** what stays behind with it and has to be set up again, in words */
  notes: string[];
}

/** Looks at a database that is to be replaced. Changes nothing. */
export async function describePresent(
  tools: Tools,
  name: string,
  recorded: DatabaseFacts,
  signal: AbortSignal,
): Promise<PresentDatabase> {
  const session = await tools.session(name, signal);
  try {
    const { size } = await session.one<{ size: string }>('SELECT pg_database_size(current_database())::text AS size');
    const notes = await attachments(session.all.bind(session));
    const read = await readUnlocked(session);
    if (!read) return { ...(await estimate(session)), name, size: Number(size), notes };
    const { tables } = read;
    const then = new Map(recorded.tables.map((table) => [`${table.schema}.${table.name}`, table]));
    let moreRows = 0;
    const newTables: string[] = [];
    for (const table of tables.filter(({ extension }) => extension === undefined)) {
      const key = `${table.schema}.${table.name}`;
      const before = then.get(key);
      if (!before) newTables.push(key);
      if (table.exact && (before?.exact ?? true) && before?.data !== false)
        moreRows += table.rows - (before?.rows ?? 0);
      then.delete(key);
    }
    for (const gone of then.values())
      if (gone.exact && gone.extension === undefined && gone.data !== false) moreRows -= gone.rows;
    return {
      name,
      size: Number(size),
      tables: tables.length,
      rows: tables.reduce((sum, { rows }) => sum + rows, 0),
      counted: true,
      moreRows,
      newTables,
      notes,
    };
  } finally {
    await session.close();
  }
}

/** How long counting waits for a lock that somebody holds, milliseconds. */
const LOCK_LIMIT_MS = 5000;

/** Undefined when somebody holds a lock on a table: whoever restores at such a moment wants to go on. */
async function readUnlocked(session: Session): Promise<TablesRead | undefined> {
  await session.run('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    await session.run(`SET LOCAL lock_timeout = ${LOCK_LIMIT_MS}`);
    return await readTables(session);
  } catch (error) {
    if (sqlState(error) !== '55P03') throw error;
    return undefined;
  } finally {
    await session.run('ROLLBACK').catch(() => undefined);
  }
}

async function estimate(
  session: Session,
): Promise<Pick<PresentDatabase, 'tables' | 'rows' | 'counted' | 'moreRows' | 'newTables'>> {
  const { tables, rows } = await session.one<Record<'tables' | 'rows', string>>(
    `SELECT count(*)::text AS tables, coalesce(sum(greatest(reltuples, 0)), 0)::bigint::text AS rows
       FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'`,
  );
  return { tables: Number(tables), rows: Number(rows), counted: false, moreRows: 0, newTables: [] };
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
    if (signal.aborted || (error instanceof LifeboatError && error.code === 'ENGINE_UNREACHABLE')) throw error;
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
