import path from 'node:path';
import type { SkippedObject } from '../../../report/events.ts';
import { formatDuration, plural } from '../../../report/format.ts';
import { tablesWithRows } from '../archive/held-rows.ts';
import { TangledError } from '../archive/run-restore.ts';
import { emptyText } from '../facts/empty-tables.ts';
import type { DatabaseFacts, PostgresFacts } from '../facts/facts.ts';
import { findNameDependents, type NameDependent } from '../facts/name-dependents.ts';
import { databaseDirectory } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import type { Tools } from '../server/tools.ts';
import { analyseDatabase } from './analyse-database.ts';
import { type Compared, compareDatabase } from './compare-database.ts';
import { createDatabase, createFailed } from './create-database.ts';
import { dropDatabase } from './drop-database.ts';
import { careFor } from './extensions.ts';
import { fillDatabase } from './fill-database.ts';
import {
  checkRenamable,
  checkRoles,
  type PlannedLoad,
  recordedDatabase,
  targetExists,
  targetState,
} from './load-plan.ts';
import { extensionRowWarnings } from './restore-warnings.ts';
import { dropWorking, type WorkingDatabase, workingName } from './swap.ts';
import { prepareTablespaces } from './tablespaces.ts';

export interface LoadOptions {
  tools: Tools;
  facts: PostgresFacts;
  /** the fetched tree, as the agent and the helper both see it */
  tree: string;
  /** directory into which the helper may write, as the agent and the helper both see it */
  scratch: string;
  /** suffix for the working names, from the run: `4f1c9a` */
  id: string;
  jobs: number;
  /** leave out the objects that the server refuses, instead of failing */
  skipFailed: boolean;
  stallTimeoutMs: number;
  signal: AbortSignal;
  step(text: string): void;
  /** Receives the size of the database that is being built, and its recorded size; bytes. */
  progress(update: { phase: string; done: number; total: number }): void;
  /** Called before a database gets a working name, so recovery knows of it after a crash. */
  recordWorking(database: WorkingDatabase): void;
  /** Called when no database has that name any more, or the one that has it stays on purpose. */
  forgetWorking(name: string): void;
  /** Called before a database with data is put aside for a rollback, with all databases that are put aside by then. */
  keepBefore(databases: readonly KeptBefore[]): Promise<void>;
  /** Called when a restored database has its final name. */
  recordSwapped(target: string): void;
  /**
   * Called before the swap of a database with content to compute again afterwards. `oid` is that of the new database.
   */
  recordDependents(target: string, oid: string): void;
  /** Called when that content is computed again, or warnings name it. */
  forgetDependents(target: string): void;
  /** Called when a database could not be restored, and is unchanged. */
  recordFailed(target: string): void;
}

/** A database with data that is about to be replaced. `oid` identifies it whatever name it has. */
export interface KeptBefore {
  name: string;
  before: string;
  oid: string;
}

/** A database that is complete under a working name, equal to the record, and analysed. */
export interface BuiltDatabase extends PlannedLoad {
  recorded: DatabaseFacts;
  /** its name until the swap */
  working: string;
  /** the name that the swap gives to the present database */
  before: string;
  compared: Compared;
  /** large tables that are empty although the dump has rows of them, in words */
  lost: string[];
  /** see `fillDatabase` */
  unreachable: string[];
  /** content to compute again under the final name */
  dependents: NameDependent[];
  /** objects that were left out, with `skipFailed` */
  skipped: SkippedObject[];
  /** duration of the analysis, milliseconds */
  analyseMs: number;
  warnings: string[];
}

const DROP_LIMIT_MS = 60_000;

/**
 * Builds one database of a dump tree as `<target>__restoring_<id>`, compares it with the record, and analyses it. The
 * target does not change. On failure, the working database is dropped.
 *
 * @throws PG_TARGET_EXISTS, PG_DATABASE_UNKNOWN, PG_RESTORE_FAILED, PG_NO_SPACE, PG_STALLED; the errors of a session
 */
export async function buildDatabase(options: LoadOptions, load: PlannedLoad): Promise<BuiltDatabase> {
  const { tools } = options;
  const recorded = recordedDatabase(options.facts, load.database);
  const working = workingName(load.target, 'restoring', options.id);
  const before = workingName(load.target, 'before', options.id);
  let made = false;
  try {
    const control = await tools.control(load.target);
    await checkUnchanged(options, control, load);
    const missingRoles = await checkRoles(control, recorded);
    options.recordWorking({ name: working, what: 'restoring' });
    made = true;
    const built = await build(options, control, { recorded, working, missingRoles });
    return { ...load, recorded, working, before, ...built };
  } catch (error) {
    if (made) await discardDatabase(options, { working });
    throw error;
  }
}

/** Drops a built database that was not swapped. Failures are logged, and recovery tries again. */
export async function discardDatabase(
  { tools, forgetWorking }: LoadOptions,
  { working }: Pick<BuiltDatabase, 'working'>,
): Promise<void> {
  // The signal of the run may be aborted.
  const limit = AbortSignal.timeout(DROP_LIMIT_MS);
  const outcome = await dropWorking(tools, { name: working, what: 'restoring' }, limit);
  if (outcome === 'gone') forgetWorking(working);
}

/** Checks the target again: fetching may have taken hours since the plan was made. */
async function checkUnchanged({ tools, signal }: LoadOptions, control: Session, load: PlannedLoad): Promise<void> {
  const now = await targetState(tools, control, load.target, signal);
  if (now === 'data' && load.state !== 'data') throw targetExists(load.target, tools.container);
  if (now !== 'absent') await checkRenamable(control, load.target, tools.container);
}

/** Creates the working database, fills it, compares it with the record, and analyses it. */
async function build(
  options: LoadOptions,
  control: Session,
  { recorded, working, missingRoles }: Pick<BuiltDatabase, 'recorded' | 'working'> & { missingRoles: string[] },
): Promise<
  Pick<BuiltDatabase, 'compared' | 'lost' | 'unreachable' | 'dependents' | 'skipped' | 'analyseMs' | 'warnings'>
> {
  const { signal } = options;
  options.step(`restoring ${recorded.name} alongside, as ${working}`);
  const spaces = await prepareTablespaces(control, recorded, options.tree);
  const create = () =>
    control.run(createDatabase(working, recorded, control.versionNumber, spaces.own)).catch((error: unknown) => {
      throw createFailed(error, recorded);
    });
  await create();
  const grown = (bytes: number) =>
    options.progress({ phase: `restoring ${recorded.name}`, done: bytes, total: recorded.size });
  const moveObjects = async () => (spaces.complete ? [] : within(options, working, spaces.move));
  const filling = { ...options, grown, tablespaces: spaces.complete, missingRoles, moveObjects };
  const { allowance, skipped, unreachable, warnings } = await fillDatabase(filling, recorded, working).catch(
    async (error: unknown) => {
      if (!(error instanceof TangledError)) throw error;
      options.step('objects failed: restoring again with one worker, to find out which');
      await dropDatabase(options.tools, working, signal);
      await create();
      return fillDatabase({ ...filling, jobs: 1 }, recorded, working);
    },
  );
  options.step('comparing with the record');
  const dependents: NameDependent[] = [];
  const compared = await within(options, working, async (session) => {
    const equal = await compareDatabase(session, recorded, allowance);
    warnings.push(...(await extensionRowWarnings(session, recorded)));
    dependents.push(...(await findNameDependents(session)));
    return equal;
  });
  const held = await tablesWithRows(
    path.posix.join(options.tree, 'databases', databaseDirectory(recorded.name)),
    compared.empty,
  );
  warnings.push(
    ...compared.empty.map((table) => `database ${recorded.name}: ${emptyText(table, held.includes(table))}`),
  );
  const analysed = await analyseDatabase({ ...options, database: working });
  options.step(`analysed ${plural(analysed.tables, 'table')} in ${formatDuration(analysed.ms)}`);
  // From here on, workers of an extension may change rows.
  await within(options, working, careFor(recorded, options.jobs).after);
  signal.throwIfAborted();
  return {
    compared,
    lost: held.map((table) => emptyText(table, true)),
    unreachable,
    dependents,
    skipped,
    analyseMs: analysed.ms,
    warnings: [...spaces.warnings, ...warnings, ...analysed.warnings],
  };
}

async function within<T>(
  { tools, signal }: LoadOptions,
  database: string,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await tools.session(database, signal);
  try {
    return await work(session);
  } finally {
    await session.close();
  }
}
