import { lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, LifeboatError } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import type { CountBudget } from '../facts/count-budget.ts';
import { type CountPace, isRefusal } from '../facts/count-rows.ts';
import { type DatabaseFacts, readDatabaseFacts, type TableFacts } from '../facts/facts.ts';
import { listTables } from '../facts/tables.ts';
import { type DumpCompression, dumpCommand, matchingTablesCommand } from '../server/commands.ts';
import { databaseDirectory } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import type { Tools } from '../server/tools.ts';
import { withWatchdog } from '../server/watchdog.ts';
import { countTables, type DatabaseDump, type Tallied } from './dump-counts.ts';
import { dumpError } from './dump-errors.ts';
import { findFragile } from './fragile.ts';
import { countUnchecked } from './orphans.ts';
import { missingDataFiles, parseToc, promisedEntries, type TocEntry } from './toc.ts';

interface DumpDatabaseOptions {
  tools: Tools;
  database: string;
  /** `databases` directory of the tree, as the agent and the helper both see it */
  parent: string;
  jobs: number;
  compression: DumpCompression;
  excludeTableData: readonly string[];
  stallTimeoutMs: number;
  /** what the counts of the whole source may cost */
  counting: CountBudget;
  signal: AbortSignal;
  /** called with the bytes dumped so far */
  progress(bytes: number): void;
}

/**
 * Dumps one database and records what is in it, both from one exported snapshot (Postgres docs, 9.28.5): the row counts are
 * those of the dump, exactly. Counting runs while `pg_dump` does, and is never a reason to fail: a table that cannot be counted
 * is recorded as not counted, with a warning.
 *
 * Succeeds only when `pg_dump` exited 0, `pg_restore` can read the whole table of contents, every table that it promises
 * has its file, and every table of the database is in it, but for those whose rows were to be left out. A dump that came
 * in the way of others is tried again, with one worker. What the last failure leaves in its directory stays there.
 *
 * Errors: PG_DUMP_FAILED, PG_DUMP_INCOMPLETE, PG_STALLED, SPOOL_FULL and those of a session.
 */
export async function dumpDatabase(options: DumpDatabaseOptions): Promise<DatabaseDump> {
  const { tools, database, signal } = options;
  const directory = path.posix.join(options.parent, databaseDirectory(database));
  for (let tries = 1; ; tries += 1) {
    try {
      // A worker asks for each table again, and gets none that somebody waits to lock; a single one keeps what it has.
      return await dumpOnce({ ...options, jobs: tries === 1 ? options.jobs : 1 }, directory);
    } catch (error) {
      if (signal.aborted || tries === MAX_TRIES || !isPassing(error)) throw error;
      await removeDump(tools, directory, error);
      tools.log.info('dumping again, with one worker', { database, error: String(error), cause: causeText(error) });
    }
  }
}

/**
 * Removes what a failed dump left, so that it is not stored. Rejects with that failure when it stays: the helper may be gone,
 * and why the dump failed says more than that nothing can be removed through it.
 */
export async function removeDump(tools: Pick<Tools, 'remove' | 'log'>, directory: string, failure: unknown) {
  try {
    await tools.remove(directory);
  } catch (error) {
    tools.log.warn('what a failed dump left could not be removed', { ...errorInfo(error) });
    throw failure;
  }
}

/** How often a database is dumped before the run goes on without it. */
const MAX_TRIES = 3;

/**
 * What somebody else's work did to a dump, as the tools say it: a lock that is waited for, a deadlock, a table or index that was
 * dropped before the dump could lock it, and what a standby replays.
 */
const PASSING =
  /could not obtain lock on|deadlock detected|conflict with recovery|cache lookup failed for|could not open relation with OID|relation ".*" does not exist|invalid snapshot identifier|snapshot ".*" does not exist/;

function isPassing(error: unknown): boolean {
  return PASSING.test(causeText(error));
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
  return { facts, warnings };
}

/** What came of a dump, as `pg_restore` lists it: its table of contents, and the tables whose rows were to be left out. */
interface Dumped extends DatabaseDump {
  list: string;
  leftOut: string;
}

async function dumpAndCount(options: DumpDatabaseOptions, directory: string, signal: AbortSignal): Promise<Dumped> {
  const { tools, database } = options;
  const dumpFailed = new AbortController();
  const session = await tools.session(database, AbortSignal.any([signal, dumpFailed.signal]));
  try {
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
      // Nobody needs the counts any more, and a count may wait for a lock for ever.
      dumpFailed.abort();
      throw dumpError(error, database, tools.container);
    });
    // Both are waited for, so that neither goes on unseen; the dump's error tells more than the session's. But when the
    // server refused a query of ours, the snapshot went with it, and the dump only stumbled over that.
    const [dumped, read] = await Promise.allSettled([dump, readAll(session, pace)]);
    if (read.status === 'rejected' && isRefusal(read.reason)) throw read.reason;
    if (dumped.status === 'rejected') throw dumped.reason;
    if (read.status === 'rejected') throw read.reason;
    const { facts, fragile, tally } = read.value;
    // The snapshot may be gone meanwhile: then what the patterns match now has to do.
    const leftOut = await matchingTables(options, signal, snapshot).catch(() => matchingTables(options, signal));
    const warnings = [...fragile, ...(await tally.finish())];
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

/** What is recorded of a database; `fragile`: warnings of what a restore will fail to build. */
interface Read {
  facts: DatabaseFacts;
  fragile: string[];
  tally: Tallied;
}

async function readAll(session: Session, pace: CountPace): Promise<Read> {
  const facts = await readDatabaseFacts(session, session.versionNumber);
  const listed = await listTables(session);
  facts.tables = listed.tables;
  const fragile = await findFragile(session, facts.name);
  facts.uncheckedKeys = await countUnchecked(session);
  return { facts, fragile, tally: await countTables(session, facts.name, listed, pace) };
}

/** Throws PG_DUMP_INCOMPLETE, or notes on each table of `facts` whether its rows are in the dump. */
export function checkDump(facts: DatabaseFacts, list: string, leftOut: string, files: readonly string[]): void {
  const incomplete = (why: string) =>
    new LifeboatError('PG_DUMP_INCOMPLETE', `the dump of ${facts.name} is not whole: ${why}`);
  const promised = promisedEntries(list);
  if (promised === undefined) throw incomplete('its table of contents is empty');
  const entries = parseToc(list);
  const missing = missingDataFiles(entries, files);
  if (missing.length > 0) throw incomplete(`the files of ${plural(missing.length, 'table')} are missing`);
  // The lists are in the database's own encoding, so that only what is ASCII can be compared.
  const key = facts.encoding === 'UTF8' ? (text: string) => text : asciiOnly;
  const named = (of: TocEntry[], kind: string) => new Set(of.filter((e) => e.kind === kind).map((e) => key(e.rest)));
  const dumped = named(entries, 'TABLE DATA');
  const onRequest = named(parseToc(leftOut), 'TABLE');
  const absent = facts.tables.filter((table) => !dumped.has(key(tocName(table))));
  const isExpected = (table: TableFacts) =>
    table.extension !== undefined || table.unloggedOnStandby || onRequest.has(key(tocName(table)));
  const [unasked, ...more] = absent.filter((table) => !isExpected(table));
  if (unasked) {
    throw incomplete(`${plural(more.length + 1, 'table')} not in it, among them ${unasked.schema}.${unasked.name}`);
  }
  // Recorded, so that neither a sum nor a comparison after a restore expects their rows.
  for (const table of absent) table.data = false;
}

/** How `pg_restore --list` writes a table: schema, name and owner, with line ends inside names as blanks. */
function tocName(table: TableFacts): string {
  return `${table.schema} ${table.name} ${table.owner}`.replaceAll(/[\r\n]/g, ' ');
}

function asciiOnly(text: string): string {
  return text.replaceAll(/[^ -~]/g, '');
}

/** Sum of the file sizes in one directory, bytes; 0 while it does not exist. */
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
