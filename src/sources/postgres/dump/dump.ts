import { lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, LifeboatError } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import type { CountBudget } from '../facts/count-budget.ts';
import { isRefusal } from '../facts/count-rows.ts';
import type { DatabaseFacts, TableFacts } from '../facts/facts.ts';
import { watchSequences } from '../facts/sequences.ts';
import { type DumpCompression, dumpCommand, matchingTablesCommand } from '../server/commands.ts';
import { databaseDirectory } from '../server/quote.ts';
import type { Tools } from '../server/tools.ts';
import { withWatchdog } from '../server/watchdog.ts';
import type { DatabaseDump } from './dump-counts.ts';
import { dumpError } from './dump-errors.ts';
import { dumpedSequences } from './dumped-sequences.ts';
import { readFacts } from './read-facts.ts';
import { keyIn, missingDataFiles, oneLine, parseToc, promisedEntries, type TocEntry } from './toc.ts';

interface DumpDatabaseOptions {
  tools: Tools;
  database: string;
  /** `databases` directory of the tree; the path is the same in the agent and the helper */
  parent: string;
  jobs: number;
  compression: DumpCompression;
  excludeTableData: readonly string[];
  stallTimeoutMs: number;
  /** limits the time for the counts of the whole source */
  counting: CountBudget;
  signal: AbortSignal;
  /** called with the bytes dumped so far */
  progress(bytes: number): void;
}

/**
 * Dumps a database and records its facts, both from one exported snapshot (Postgres docs, 9.28.5), so the row counts
 * match the dump exactly. Rows are counted while `pg_dump` runs. A table that cannot be counted causes a warning, never
 * a failure.
 *
 * Succeeds only if `pg_dump` exits with 0, `pg_restore` can read the whole table of contents, every listed table has
 * its file, and every table of the database is listed, except those whose rows are left out on purpose. A dump that
 * conflicts with other sessions is tried again, with one worker. Files of the last failed try stay in the directory.
 *
 * @throws PG_DUMP_FAILED, PG_DUMP_INCOMPLETE, PG_STALLED, SPOOL_FULL, and errors of a session
 */
export async function dumpDatabase(options: DumpDatabaseOptions): Promise<DatabaseDump> {
  const { tools, database, signal } = options;
  const directory = path.posix.join(options.parent, databaseDirectory(database));
  for (let tries = 1; ; tries += 1) {
    try {
      // Each worker locks its tables again, which fails if another session waits for a lock. A single worker keeps its
      // locks.
      return await dumpOnce({ ...options, jobs: tries === 1 ? options.jobs : 1 }, directory);
    } catch (error) {
      if (signal.aborted || tries === MAX_TRIES || !isConflict(error)) throw error;
      await removeDump(tools, directory, error);
      tools.log.info('dumping again, with one worker', { database, error: String(error), cause: causeText(error) });
    }
  }
}

/**
 * Removes the files of a failed dump, so that they are not stored. Throws `failure` if that is impossible: the helper
 * may be gone, and the reason for the failed dump says more.
 */
export async function removeDump(tools: Pick<Tools, 'remove' | 'log'>, directory: string, failure: unknown) {
  try {
    await tools.remove(directory);
  } catch (error) {
    tools.log.warn('the files of a failed dump could not be removed', { ...errorInfo(error) });
    throw failure;
  }
}

/** The number of attempts to dump a database before the run continues without it. */
const MAX_TRIES = 3;

/**
 * Matches messages about conflicts with other sessions: a lock, a deadlock, a table or index that was dropped before
 * the dump could lock it, and conflicts with the recovery of a standby.
 */
const CONFLICT =
  /could not obtain lock on|deadlock detected|conflict with recovery|cache lookup failed for|could not open relation with OID|relation ".*" does not exist|invalid snapshot identifier|snapshot ".*" does not exist/;

function isConflict(error: unknown): boolean {
  return CONFLICT.test(causeText(error));
}

function causeText(error: unknown): string {
  const messages: string[] = [];
  for (let e = error; e instanceof Error; e = e.cause) messages.push(e.message);
  return messages.join(': ');
}

async function dumpOnce(options: DumpDatabaseOptions, directory: string): Promise<DatabaseDump> {
  const { tools, database } = options;
  const bytesPulse = async () => {
    const bytes = await directorySize(directory);
    options.progress(bytes);
    return String(bytes);
  };
  const watch = {
    timeoutMs: options.stallTimeoutMs,
    pulses: [bytesPulse, () => tools.activity()],
    signal: options.signal,
    what: `the dump of ${database} in ${tools.container}`,
  };
  const { facts, warnings, list, leftOut } = await withWatchdog(watch, (signal) =>
    dumpAndCount(options, directory, signal),
  );
  checkDump(facts, list, leftOut, await readdir(directory));
  options.progress(await directorySize(directory));
  return { facts, warnings, dumpIds: new Set(parseToc(list).map(({ dumpId }) => dumpId)) };
}

/** The result of a dump. */
interface Dumped extends Omit<DatabaseDump, 'dumpIds'> {
  /** table of contents, as `pg_restore --list` prints it */
  list: string;
  /** the tables whose rows are left out on request, in the same format */
  leftOut: string;
}

async function dumpAndCount(options: DumpDatabaseOptions, directory: string, signal: AbortSignal): Promise<Dumped> {
  const { tools, database } = options;
  const dumpFailed = new AbortController();
  const session = await tools.session(database, AbortSignal.any([signal, dumpFailed.signal]));
  try {
    const sequences = await watchSequences(session);
    await session.run('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    const { snapshot } = await session.one<{ snapshot: string }>('SELECT pg_export_snapshot() AS snapshot');
    const command = dumpCommand({
      connection: tools.connection,
      database,
      directory,
      snapshot,
      jobs: options.jobs,
      compression: options.compression,
      excludeTableData: options.excludeTableData,
      lockTimeoutMs: options.stallTimeoutMs,
    });
    const pace = options.counting.begin();
    const running = tools.run(command, signal).finally(() => pace.dumpEnded());
    const dump = running.catch((error: unknown) => {
      // The counts are no longer needed, and a count may wait for a lock for ever.
      dumpFailed.abort();
      throw dumpError(error, database, tools.container);
    });
    // Wait for both, so that neither continues in the background. The error of the dump usually says more than that of
    // the session. But if the server refused a query, the session lost its snapshot, and that is why the dump failed.
    const [dumped, read] = await Promise.allSettled([dump, readFacts(session, pace)]);
    if (read.status === 'rejected' && isRefusal(read.reason)) throw read.reason;
    if (dumped.status === 'rejected') throw dumped.reason;
    if (read.status === 'rejected') throw read.reason;
    const { facts, fragile, finish } = read.value;
    // If the snapshot no longer exists, the patterns are matched with the present tables.
    const leftOut = await matchingTables(options, signal, snapshot).catch(() => matchingTables(options, signal));
    const warnings = [...fragile, ...(await finish())];
    const { sequences: still, moved } = await sequences.afterwards();
    if (still) Object.assign(facts, dumpedSequences(facts, dumped.value, { sequences: still, movedSequences: moved }));
    return { facts, warnings, list: dumped.value, leftOut };
  } finally {
    await session.close();
  }
}

async function matchingTables(
  { tools, database, excludeTableData }: DumpDatabaseOptions,
  signal: AbortSignal,
  snapshot?: string,
): Promise<string> {
  if (excludeTableData.length === 0) return '';
  const command = matchingTablesCommand(tools.connection, database, excludeTableData, snapshot);
  return tools.run(command, signal).catch((error: unknown) => {
    if (error instanceof LifeboatError && /no matching tables were found/.test(error.message)) return '';
    throw dumpError(error, database, tools.container);
  });
}

/**
 * Checks that a dump is complete, and marks the tables of `facts` whose rows it lacks.
 *
 * @param list table of contents, as `pg_restore --list` prints it
 * @param leftOut the tables whose rows are left out on request, in the same format
 * @param files names of the files in the dump directory
 * @throws PG_DUMP_INCOMPLETE
 */
export function checkDump(facts: DatabaseFacts, list: string, leftOut: string, files: readonly string[]): void {
  const incomplete = (why: string) =>
    new LifeboatError('PG_DUMP_INCOMPLETE', `the dump of ${facts.name} is incomplete: ${why}`);
  const promised = promisedEntries(list);
  if (promised === undefined) throw incomplete('its table of contents is empty');
  const entries = parseToc(list);
  const missing = missingDataFiles(entries, files);
  if (missing.length > 0) throw incomplete(`the files of ${plural(missing.length, 'table')} are missing`);
  const key = keyIn(facts.encoding);
  const named = (of: TocEntry[], kind: string) => new Set(of.filter((e) => e.kind === kind).map((e) => key(e.rest)));
  const dumped = named(entries, 'TABLE DATA');
  const onRequest = named(parseToc(leftOut), 'TABLE');
  const absent = facts.tables.filter((table) => !dumped.has(key(tocName(table))));
  const isExpected = (table: TableFacts) =>
    table.extension !== undefined || table.unloggedOnStandby || onRequest.has(key(tocName(table)));
  const [unasked, ...more] = absent.filter((table) => !isExpected(table));
  if (unasked) {
    throw incomplete(`it lacks ${plural(more.length + 1, 'table')}, among them ${unasked.schema}.${unasked.name}`);
  }
  // Neither the summary nor the comparison after a restore may expect these rows.
  for (const table of absent) table.data = false;
}

/** Formats a table as `pg_restore --list` does: schema, name and owner, with each line break in a name as a space. */
function tocName(table: TableFacts): string {
  return oneLine(`${table.schema} ${table.name} ${table.owner}`);
}

/** Returns the total size of the files in a directory, bytes; 0 while it does not exist. */
async function directorySize(directory: string): Promise<number> {
  const names = await readdir(directory).catch(() => []);
  let total = 0;
  for (let i = 0; i < names.length; i += 64) {
    const sizes = names.slice(i, i + 64).map((name) =>
      lstat(path.join(directory, name)).then(
        (info) => info.size,
        () => 0,
      ),
    );
    for (const size of await Promise.all(sizes)) total += size;
  }
  return total;
}
