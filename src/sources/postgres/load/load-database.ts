import type { SkippedObject } from '../../../report/events.ts';
import { formatDuration, plural } from '../../../report/format.ts';
import { TangledError } from '../archive/run-restore.ts';
import type { DatabaseFacts, PostgresFacts } from '../facts/facts.ts';
import { findNameDependents, type NameDependent } from '../facts/name-dependents.ts';
import type { Session } from '../server/session.ts';
import type { Tools } from '../server/tools.ts';
import { analyseDatabase } from './analyse-database.ts';
import { type Compared, compareDatabase } from './compare-database.ts';
import { createDatabase, createFailed, setProperties } from './create-database.ts';
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
import { recomputeDependents } from './recompute-dependents.ts';
import { extensionRowWarnings } from './restore-warnings.ts';
import { dropWorking, readDatabases, renameDatabases, type WorkingDatabase, workingName } from './swap.ts';
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

export interface LoadedDatabase extends Compared {
  target: string;
  /** tables that it has */
  tables: number;
  /** objects that were left out, with `skipFailed` */
  skipped: SkippedObject[];
  /** duration of the analysis, milliseconds */
  analyseMs: number;
  /** how long its name had no usable database, milliseconds; absent if no database was replaced */
  swapMs?: number;
  warnings: string[];
  /** the name of the database that it replaced */
  before?: string;
}

/** A database that is being built under a working name. */
interface Building extends PlannedLoad {
  recorded: DatabaseFacts;
  working: string;
  before: string;
}

const DROP_LIMIT_MS = 60_000;

/**
 * Restores one database of a dump tree. Builds it as `<target>__restoring_<id>`, compares it with the record, and
 * analyses it. Then one transaction renames it to `<target>`, and a database with data under that name to
 * `<target>__before_<id>`. Content that depends on the name of the database is computed again afterwards. The database
 * is therefore either unchanged or restored. On failure, the working database is dropped.
 *
 * @param kept databases that the same restore has put aside; the function adds its own
 * @throws PG_TARGET_EXISTS, PG_DATABASE_UNKNOWN, PG_RESTORE_FAILED, PG_NO_SPACE, PG_STALLED; the errors of a session
 */
export async function loadDatabase(
  options: LoadOptions,
  load: PlannedLoad,
  kept: KeptBefore[],
): Promise<LoadedDatabase> {
  const { tools } = options;
  const recorded = recordedDatabase(options.facts, load.database);
  const working = workingName(load.target, 'restoring', options.id);
  const building = { ...load, recorded, working, before: workingName(load.target, 'before', options.id) };
  let made = false;
  try {
    const control = await tools.control(load.target);
    await checkUnchanged(options, control, load);
    const missingRoles = await checkRoles(control, recorded);
    options.recordWorking({ name: working, what: 'restoring' });
    made = true;
    const { compared, dependents, ...built } = await build(options, control, { ...building, missingRoles });
    built.warnings.push(...(await setProperties(control, recorded, working)));
    if (dependents.length > 0) await recordDependents(options, control, building);
    const { swapMs, aside } = await swap(options, control, building, kept);
    options.recordSwapped(load.target);
    options.forgetWorking(working);
    const open = () => tools.session(load.target, options.signal);
    built.warnings.push(...(await recomputeDependents(load.target, dependents, open)));
    options.forgetDependents(load.target);
    if (aside) built.warnings.push(...(await clearBefore(options, building)));
    return {
      ...{ target: load.target, tables: recorded.tables.length - compared.missing.length, ...compared, ...built },
      ...(load.state === 'data' ? { before: building.before } : {}),
      ...(swapMs === undefined ? {} : { swapMs }),
    };
  } catch (error) {
    // The signal of the run may be aborted.
    const limit = AbortSignal.timeout(DROP_LIMIT_MS);
    const outcome = made ? await dropWorking(tools, { name: working, what: 'restoring' }, limit) : undefined;
    if (outcome === 'gone') options.forgetWorking(working);
    throw error;
  }
}

/** Checks the target again: fetching may have taken hours since the plan was made. */
async function checkUnchanged({ tools, signal }: LoadOptions, control: Session, load: PlannedLoad): Promise<void> {
  const now = await targetState(tools, control, load.target, signal);
  if (now === 'data' && load.state !== 'data') throw targetExists(load.target, tools.container);
  if (now !== 'absent') await checkRenamable(control, load.target, tools.container);
}

async function recordDependents(options: LoadOptions, control: Session, { target, working }: Building): Promise<void> {
  const oid = (await readDatabases(control, [working])).get(working)?.oid;
  if (oid !== undefined) options.recordDependents(target, oid);
}

/** @returns `swapMs`: how long a used database was unavailable; `aside`: an empty one was renamed, to be dropped */
async function swap(
  options: LoadOptions,
  control: Session,
  { target, working, before, ...one }: Building,
  kept: KeptBefore[],
): Promise<{ swapMs?: number; aside: boolean }> {
  const { tools, signal } = options;
  const now = await targetState(tools, control, target, signal);
  if (now === 'data' && one.state !== 'data') throw targetExists(target, tools.container);
  const stands = now !== 'absent';
  const replaces = stands && one.state === 'data';
  if (replaces) {
    const found = await readDatabases(control, [target]);
    kept.push({ name: target, before, oid: found.get(target)?.oid ?? '' });
    await options.keepBefore(kept);
    options.step(`swapping: the present ${target} is put aside as ${before}`);
  }
  const aside = stands && !replaces;
  if (aside) options.recordWorking({ name: before, what: 'before' });
  const renames = [...(stands ? [{ from: target, to: before }] : []), { from: working, to: target }];
  // Workers of an extension may use the new database.
  const inUse = stands ? [target, working] : [working];
  const ms = await renameDatabases(tools, control, renames, { inUse, signal }).catch(async (error: unknown) => {
    // If the server cannot be queried, it may have renamed the database.
    const named = replaces ? await readDatabases(control, [before]).catch(() => undefined) : undefined;
    if (named?.size === 0) {
      kept.pop();
      // The next command corrects the record. The error of the rename is more useful than one about the record.
      await options.keepBefore(kept).catch(() => undefined);
    }
    throw error;
  });
  return { aside, ...(replaces ? { swapMs: ms } : {}) };
}

/** Creates the working database, fills it, compares it with the record, and analyses it. */
async function build(
  options: LoadOptions,
  control: Session,
  { recorded, working, missingRoles }: Building & { missingRoles: string[] },
): Promise<
  { compared: Compared; dependents: NameDependent[] } & Pick<LoadedDatabase, 'skipped' | 'analyseMs' | 'warnings'>
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
  const { allowance, skipped, warnings } = await fillDatabase(filling, recorded, working).catch(
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
  const analysed = await analyseDatabase({ ...options, database: working });
  options.step(`analysed ${plural(analysed.tables, 'table')} in ${formatDuration(analysed.ms)}`);
  // From here on, workers of an extension may change rows.
  await within(options, working, careFor(recorded, options.jobs).after);
  signal.throwIfAborted();
  return {
    compared,
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

/** Drops the empty database that had the target's name, unless somebody has used it since. */
async function clearBefore(options: LoadOptions, { target, before }: Building): Promise<string[]> {
  const outcome = await dropWorking(options.tools, { name: before, what: 'before' }, options.signal);
  if (outcome !== 'failed') options.forgetWorking(before);
  if (outcome !== 'kept') return [];
  return [`the database that was called ${target} is not empty any more, and stays as ${before}`];
}
