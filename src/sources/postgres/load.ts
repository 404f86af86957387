import path from 'node:path';
import { LifeboatError } from '../../errors.ts';
import { restoreCommand } from './commands.ts';
import { createDatabase, databaseProperties } from './create-database.ts';
import { countRows, type DatabaseFacts, type PostgresFacts, type TableFacts } from './facts.ts';
import { checkRoles, recordedDatabase, targetExists, targetState } from './load-plan.ts';
import { databaseDirectory } from './quote.ts';
import { type Session, sqlState } from './session.ts';
import { dropWorking, takeName, type WorkingDatabase, workingName } from './swap.ts';
import type { Tools } from './tools.ts';
import { withWatchdog } from './watchdog.ts';

export interface LoadDatabaseOptions {
  tools: Tools;
  facts: PostgresFacts;
  /** the recorded database */
  database: string;
  /** name to restore under */
  target: string;
  /** the fetched tree, as the agent and the helper both see it */
  tree: string;
  /** suffix for the working names, from the run: `4f1c9a` */
  id: string;
  jobs: number;
  stallTimeoutMs: number;
  signal: AbortSignal;
  step(text: string): void;
  /** Called before a database gets such a name, so that a crash leaves nothing unknown behind. */
  recordWorking(database: WorkingDatabase): void;
  /** Called when nothing stands under that name any more, or what does is kept on purpose. */
  forgetWorking(name: string): void;
}

export interface LoadedDatabase {
  target: string;
  tables: number;
  /** rows compared and found equal */
  rows: number;
  warnings: string[];
}

/**
 * Restores one database of a dump tree. It is built as `<target>__restoring_<id>`, compared with what was recorded, and
 * renamed last: under `target` there is never half a database. On failure the working database is dropped.
 *
 * Errors: PG_TARGET_EXISTS, PG_DATABASE_UNKNOWN, PG_RESTORE_FAILED.
 */
export async function loadDatabase(options: LoadDatabaseOptions): Promise<LoadedDatabase> {
  const { tools, target } = options;
  const recorded = recordedDatabase(options.facts, options.database);
  const control = await tools.control(target);
  // Looked at when the restore was planned; fetching may have taken hours since.
  const state = await targetState(tools, control, target, options.signal);
  if (state === 'data') throw targetExists(target, tools.container);
  await checkRoles(control, recorded);

  const restoring: WorkingDatabase = { name: workingName(target, 'restoring', options.id), what: 'restoring' };
  const before: WorkingDatabase = { name: workingName(target, 'before', options.id), what: 'before' };
  options.recordWorking(restoring);
  try {
    const rows = await build(options, control, recorded, restoring.name);
    const warnings = await setProperties(control, recorded, restoring.name);
    if (state !== 'absent') options.recordWorking(before);
    const names = { working: restoring.name, target, ...(state === 'absent' ? {} : { before: before.name }) };
    await takeName(tools, control, names, options.signal);
    options.forgetWorking(restoring.name);
    if (state !== 'absent') warnings.push(...(await clearBefore(options, before)));
    return { target, tables: recorded.tables.length, rows, warnings };
  } catch (error) {
    // The run's own signal may be what ended it.
    const outcome = await dropWorking(tools, restoring, AbortSignal.timeout(DROP_LIMIT_MS));
    if (outcome === 'gone') options.forgetWorking(restoring.name);
    throw error;
  }
}

const DROP_LIMIT_MS = 60_000;

/** Makes the working database and fills it. Returns the rows found equal to the record. */
async function build(
  options: LoadDatabaseOptions,
  control: Session,
  recorded: DatabaseFacts,
  working: string,
): Promise<number> {
  const { tools, target, signal, stallTimeoutMs } = options;
  options.step(`restoring ${recorded.name} beside, as ${working}`);
  await control.run(createDatabase(working, recorded, control.versionNumber)).catch((error: unknown) => {
    throw new LifeboatError('PG_RESTORE_FAILED', `a database like ${recorded.name} cannot be made`, {
      cause: error,
      hint: `It has encoding ${recorded.encoding} and locale ${recorded.locale ?? recorded.collate}: use an image that has them. Nothing was changed.`,
    });
  });
  const directory = path.posix.join(options.tree, 'databases', databaseDirectory(recorded.name));
  await withWatchdog(
    { timeoutMs: stallTimeoutMs, pulses: [() => tools.activity()], signal, what: `the restore of ${target}` },
    (watched) => tools.run(restoreCommand(tools.connection, working, directory, options.jobs), watched),
  ).catch((error: unknown) => {
    if (error instanceof LifeboatError && error.code !== 'EXEC_FAILED') throw error;
    throw new LifeboatError('PG_RESTORE_FAILED', `pg_restore of ${recorded.name} failed`, {
      cause: error,
      hint: 'Nothing was changed. --to-directory DIR gives the dump itself, for pg_restore by hand.',
    });
  });
  options.step('comparing with what was recorded');
  const session = await tools.session(working, signal);
  try {
    return await compare(session, recorded);
  } finally {
    await session.close();
  }
}

/** A server of a newer version may not know a setting any more: told, but no reason to have no database. */
async function setProperties(control: Session, recorded: DatabaseFacts, working: string): Promise<string[]> {
  const warnings: string[] = [];
  for (const { sql, about } of databaseProperties(working, recorded)) {
    try {
      // One query, so that all of it or nothing holds.
      await control.run(sql.join('; '));
    } catch (error) {
      if (!(error instanceof LifeboatError) || error.code !== 'PG_QUERY') throw error;
      warnings.push(`database ${recorded.name}: ${about} could not be set (SQLSTATE ${sqlState(error)})`);
    }
  }
  return warnings;
}

/** What stood under the target's name was empty when looked at; whoever used it since keeps what they have. */
async function clearBefore(options: LoadDatabaseOptions, before: WorkingDatabase): Promise<string[]> {
  const outcome = await dropWorking(options.tools, before, options.signal);
  if (outcome !== 'failed') options.forgetWorking(before.name);
  if (outcome !== 'kept') return [];
  return [`what stood under the name ${options.target} is kept as ${before.name}: it is not quite empty`];
}

/** Row counts and extensions against the record. Returns the rows found equal; PG_RESTORE_FAILED on any difference. */
async function compare(session: Session, recorded: DatabaseFacts): Promise<number> {
  const differences: string[] = [];
  const extensions = await session.all<{ name: string }>('SELECT extname AS name FROM pg_extension');
  for (const { name } of recorded.extensions) {
    if (!extensions.some((extension) => extension.name === name)) differences.push(`extension ${name} is missing`);
  }
  const { objects } = await session.one<{ objects: string }>(
    'SELECT count(*)::text AS objects FROM pg_largeobject_metadata',
  );
  if (Number(objects) !== recorded.largeObjects) {
    differences.push(`it has ${objects} large objects, recorded were ${recorded.largeObjects}`);
  }
  const expected = recorded.tables.filter(
    (table) => table.exact && table.extension === undefined && table.data !== false,
  );
  const restored: TableFacts[] = expected.map((table) => ({ ...table, rows: -1 }));
  await countRows(session, restored);
  restored.forEach((table, i) => {
    const rows = (expected[i] as TableFacts).rows;
    if (table.rows !== rows)
      differences.push(`${table.schema}.${table.name} has ${table.rows} rows, recorded were ${rows}`);
  });
  if (differences.length > 0) {
    throw new LifeboatError(
      'PG_RESTORE_FAILED',
      `the restored database differs from the record: ${differences.slice(0, 5).join('; ')}`,
      {
        hint: 'The restored copy was dropped and nothing else was changed; try an older snapshot and report this.',
      },
    );
  }
  return expected.reduce((sum, table) => sum + table.rows, 0);
}
