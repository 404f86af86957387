import type { SkippedObject } from '../../../report/events.ts';
import { formatDuration, plural } from '../../../report/format.ts';
import { TangledError } from '../archive/run-restore.ts';
import type { DatabaseFacts, PostgresFacts } from '../facts/facts.ts';
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
import { extensionRowWarnings } from './restore-warnings.ts';
import { dropWorking, readDatabases, renameDatabases, type WorkingDatabase, workingName } from './swap.ts';
import { prepareTablespaces } from './tablespaces.ts';

export interface LoadOptions {
  tools: Tools;
  facts: PostgresFacts;
  /** the fetched tree, as the agent and the helper both see it */
  tree: string;
  /** directory into which the helper may write, likewise */
  scratch: string;
  /** suffix for the working names, from the run: `4f1c9a` */
  id: string;
  jobs: number;
  /** what the server refuses is left out, instead of being the end of its database */
  skipFailed: boolean;
  stallTimeoutMs: number;
  signal: AbortSignal;
  step(text: string): void;
  /** hears how large the database is that is being built, and how large it was; bytes */
  progress(update: { phase: string; done: number; total: number }): void;
  /** Called before a database gets such a name, so that a crash leaves nothing unknown behind. */
  recordWorking(database: WorkingDatabase): void;
  /** Called when nothing stands under that name any more, or what does is kept on purpose. */
  forgetWorking(name: string): void;
  /** Called before a database that holds data gets the name under which it is kept for a rollback, with all that have one by then. */
  keepBefore(databases: readonly KeptBefore[]): Promise<void>;
  /** Called when a restored database has its name. */
  recordSwapped(target: string): void;
  /** Called when a database is as it was, since it could not be restored. */
  recordFailed(target: string): void;
}

/** A database with data that is about to be replaced. `oid` identifies it whatever its name. */
export interface KeptBefore {
  name: string;
  before: string;
  oid: string;
}

export interface LoadedDatabase extends Compared {
  target: string;
  /** tables that it has */
  tables: number;
  /** what was left out of it, with `skipFailed` */
  skipped: SkippedObject[];
  /** how long its planner statistics took, milliseconds */
  analyseMs: number;
  /** how long its name stood for no usable database, milliseconds; absent where nothing was in use before */
  swapMs?: number;
  warnings: string[];
  /** what it replaced is kept under this name */
  before?: string;
}

/** A database that is built beside the name that it is for. */
interface Building extends PlannedLoad {
  recorded: DatabaseFacts;
  working: string;
  before: string;
}

const DROP_LIMIT_MS = 60_000;

/**
 * Restores one database of a dump tree. It is built as `<target>__restoring_<id>`, compared with what was recorded and
 * analysed; then one transaction gives it its name, and what held data under that name the name `<target>__before_<id>`. So
 * the database is as it was, or restored. On failure the working one is dropped.
 *
 * @param kept what was put aside before by the same restore; what this one puts aside is added
 *
 * Errors: PG_TARGET_EXISTS, PG_DATABASE_UNKNOWN, PG_RESTORE_FAILED, PG_NO_SPACE, PG_STALLED; those of a session.
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
    const { compared, ...built } = await build(options, control, { ...building, missingRoles });
    built.warnings.push(...(await setProperties(control, recorded, working)));
    const { swapMs, aside } = await swap(options, control, building, kept);
    options.recordSwapped(load.target);
    options.forgetWorking(working);
    if (aside) built.warnings.push(...(await clearBefore(options, building)));
    return {
      ...{ target: load.target, tables: recorded.tables.length - compared.missing.length, ...compared, ...built },
      ...(load.state === 'data' ? { before: building.before } : {}),
      ...(swapMs === undefined ? {} : { swapMs }),
    };
  } catch (error) {
    // The run's own signal may be what ended it.
    const limit = AbortSignal.timeout(DROP_LIMIT_MS);
    const outcome = made ? await dropWorking(tools, { name: working, what: 'restoring' }, limit) : undefined;
    if (outcome === 'gone') options.forgetWorking(working);
    throw error;
  }
}

/** Fetching may have taken hours since it was decided what to replace. */
async function checkUnchanged({ tools, signal }: LoadOptions, control: Session, load: PlannedLoad): Promise<void> {
  const now = await targetState(tools, control, load.target, signal);
  if (now === 'data' && load.state !== 'data') throw targetExists(load.target, tools.container);
  if (now !== 'absent') await checkRenamable(control, load.target, tools.container);
}

/** `swapMs`: how long a database in use was away. `aside`: one that held nothing stood there, and is not worth keeping. */
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
    options.step(`swapping: ${target} is kept as ${before}`);
  }
  const aside = stands && !replaces;
  if (aside) options.recordWorking({ name: before, what: 'before' });
  const renames = [...(stands ? [{ from: target, to: before }] : []), { from: working, to: target }];
  // On one that was built just now there may be workers of an extension.
  const inUse = stands ? [target, working] : [working];
  const ms = await renameDatabases(tools, control, renames, { inUse, signal }).catch(async (error: unknown) => {
    // A server that cannot be asked may have renamed it.
    const named = replaces ? await readDatabases(control, [before]).catch(() => undefined) : undefined;
    if (named?.size === 0) {
      kept.pop();
      await options.keepBefore(kept);
    }
    throw error;
  });
  return { aside, ...(replaces ? { swapMs: ms } : {}) };
}

/** Makes the working database, fills it, compares it with the record, and has the planner's statistics made. */
async function build(
  options: LoadOptions,
  control: Session,
  { recorded, working, missingRoles }: Building & { missingRoles: string[] },
): Promise<{ compared: Compared } & Pick<LoadedDatabase, 'skipped' | 'analyseMs' | 'warnings'>> {
  const { signal } = options;
  options.step(`restoring ${recorded.name} beside, as ${working}`);
  const spaces = await prepareTablespaces(control, recorded, options.tree);
  const create = () =>
    control.run(createDatabase(working, recorded, control.versionNumber, spaces.own)).catch((error: unknown) => {
      throw createFailed(error, recorded);
    });
  await create();
  const grown = (bytes: number) =>
    options.progress({ phase: `restoring ${recorded.name}`, done: bytes, total: recorded.size });
  const filling = { ...options, grown, tablespaces: spaces.complete, missingRoles };
  const { allowance, skipped, warnings } = await fillDatabase(filling, recorded, working).catch(
    async (error: unknown) => {
      if (!(error instanceof TangledError)) throw error;
      options.step('objects failed: restoring again with one worker, which tells for certain which');
      await dropDatabase(options.tools, working, signal);
      await create();
      return fillDatabase({ ...filling, jobs: 1 }, recorded, working);
    },
  );
  if (!spaces.complete) warnings.push(...(await within(options, working, spaces.move)));
  options.step('comparing with what was recorded');
  const compared = await within(options, working, async (session) => {
    const equal = await compareDatabase(session, recorded, allowance);
    warnings.push(...(await extensionRowWarnings(session, recorded)));
    return equal;
  });
  const analysed = await analyseDatabase({ ...options, database: working });
  options.step(`analysed ${plural(analysed.tables, 'table')} in ${formatDuration(analysed.ms)}`);
  // Workers of an extension may change rows from here on.
  await within(options, working, careFor(recorded, options.jobs).after);
  signal.throwIfAborted();
  return {
    compared,
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

/** What stood under the target's name was empty when looked at; whoever used it since keeps what they have. */
async function clearBefore(options: LoadOptions, { target, before }: Building): Promise<string[]> {
  const outcome = await dropWorking(options.tools, { name: before, what: 'before' }, options.signal);
  if (outcome !== 'failed') options.forgetWorking(before);
  if (outcome !== 'kept') return [];
  return [`what stood under the name ${target} is kept as ${before}: it is not quite empty`];
}
