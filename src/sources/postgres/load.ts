import { LifeboatError } from '../../errors.ts';
import { type Compared, compareDatabase } from './compare-database.ts';
import { createDatabase, databaseProperties } from './create-database.ts';
import type { DatabaseFacts, PostgresFacts } from './facts.ts';
import { fillDatabase } from './fill-database.ts';
import {
  checkRenamable,
  checkRoles,
  type PlannedLoad,
  recordedDatabase,
  targetExists,
  targetState,
} from './load-plan.ts';
import type { Session } from './session.ts';
import { sqlState } from './sql-state.ts';
import { dropWorking, readDatabases, renameDatabases, type WorkingDatabase, workingName } from './swap.ts';
import type { Tools } from './tools.ts';

export interface LoadOptions {
  tools: Tools;
  facts: PostgresFacts;
  /** which recorded databases to make under which names, as they were found when that was decided */
  loads: readonly PlannedLoad[];
  /** the fetched tree, as the agent and the helper both see it */
  tree: string;
  /** suffix for the working names, from the run: `4f1c9a` */
  id: string;
  jobs: number;
  stallTimeoutMs: number;
  signal: AbortSignal;
  step(text: string): void;
  /** hears how large the database is that is being built, and how large it was; bytes */
  progress(update: { phase: string; done: number; total: number }): void;
  /** Called before a database gets such a name, so that a crash leaves nothing unknown behind. */
  recordWorking(database: WorkingDatabase): void;
  /** Called when nothing stands under that name any more, or what does is kept on purpose. */
  forgetWorking(name: string): void;
  /** Called before databases that hold data get the names under which they are kept for a rollback. */
  keepBefore(databases: { name: string; before: string; oid: string }[]): Promise<void>;
}

export interface LoadedDatabase {
  target: string;
  tables: number;
  /** rows counted and found equal to the record */
  rows: number;
  /** tables of which only an estimate was recorded, so that their rows were not compared */
  estimated: number;
  /** what it replaced is kept under this name */
  before?: string;
}

export interface Loaded {
  databases: LoadedDatabase[];
  /** how long names stood for no usable database, milliseconds; absent where nothing was in use before */
  swapMs?: number;
  warnings: string[];
}

/** A database that was built beside the name that it is for. */
interface Built extends PlannedLoad {
  working: string;
  before: string;
  tables: number;
  rows: number;
  estimated: number;
}

/**
 * Restores databases of a dump tree. Each is built as `<target>__restoring_<id>` and compared with what was recorded; when
 * all of them are there, one transaction gives them their names, and what held data under these names the name
 * `<target>__before_<id>`. So the databases are all as they were, or all restored. On failure the working ones are dropped.
 *
 * Errors: PG_TARGET_EXISTS, PG_DATABASE_UNKNOWN, PG_RESTORE_FAILED, PG_STALLED; those of a session.
 */
export async function loadDatabases(options: LoadOptions): Promise<Loaded> {
  const { tools, loads } = options;
  const control = await tools.control(...loads.map(({ target }) => target));
  const built: Built[] = [];
  const warnings: string[] = [];
  try {
    for (const load of loads) {
      const recorded = recordedDatabase(options.facts, load.database);
      await checkUnchanged(options, control, load);
      await checkRoles(control, recorded);
      const working = workingName(load.target, 'restoring', options.id);
      const before = workingName(load.target, 'before', options.id);
      options.recordWorking({ name: working, what: 'restoring' });
      const one: Built = { ...load, working, before, tables: recorded.tables.length, rows: 0, estimated: 0 };
      built.push(one);
      const { warnings: told, ...compared } = await build(options, control, recorded, one);
      Object.assign(one, compared);
      warnings.push(...told);
      warnings.push(...(await setProperties(control, recorded, working)));
    }
    const swapMs = await swapAll(options, control, built);
    for (const { working } of built) options.forgetWorking(working);
    for (const one of built) if (clears(one)) warnings.push(...(await clearBefore(options, one)));
    const databases = built.map(({ target, tables, rows, estimated, before, state }) => {
      return { target, tables, rows, estimated, ...(state === 'data' ? { before } : {}) };
    });
    return { databases, warnings, ...(swapMs === undefined ? {} : { swapMs }) };
  } catch (error) {
    for (const { working } of built) {
      // The run's own signal may be what ended it.
      const outcome = await dropWorking(
        tools,
        { name: working, what: 'restoring' },
        AbortSignal.timeout(DROP_LIMIT_MS),
      );
      if (outcome === 'gone') options.forgetWorking(working);
    }
    throw error;
  }
}

/** What stood there and held nothing is not worth keeping. */
function clears({ state }: Built): boolean {
  return state === 'nothing' || state === 'extensions';
}

/** Fetching may have taken hours since it was decided what to replace. */
async function checkUnchanged({ tools, signal }: LoadOptions, control: Session, load: PlannedLoad): Promise<void> {
  const now = await targetState(tools, control, load.target, signal);
  if (now === 'data' && load.state !== 'data') throw targetExists(load.target, tools.container);
  if (now !== 'absent') await checkRenamable(control, load.target, tools.container);
}

/** Resolves to how long databases in use were away, in milliseconds. */
async function swapAll(options: LoadOptions, control: Session, built: readonly Built[]): Promise<number | undefined> {
  const { tools, signal } = options;
  const standing: Built[] = [];
  for (const one of built) {
    const now = await targetState(tools, control, one.target, signal);
    if (now === 'data' && one.state !== 'data') throw targetExists(one.target, tools.container);
    if (now !== 'absent') standing.push(one);
  }
  const replaced = standing.filter(({ state }) => state === 'data');
  if (replaced.length > 0) {
    const found = await readDatabases(
      control,
      replaced.map(({ target }) => target),
    );
    const kept = replaced.map(({ target, before }) => ({ name: target, before, oid: found.get(target)?.oid ?? '' }));
    await options.keepBefore(kept);
  }
  for (const { before } of standing.filter(clears)) options.recordWorking({ name: before, what: 'before' });
  const renames = built.flatMap((one) => [
    ...(standing.includes(one) ? [{ from: one.target, to: one.before }] : []),
    { from: one.working, to: one.target },
  ]);
  for (const { target, before } of replaced) options.step(`swapping: ${target} is kept as ${before}`);
  // On one that was built just now there may be workers of an extension.
  const inUse = built.flatMap((one) => (standing.includes(one) ? [one.target, one.working] : [one.working]));
  const ms = await renameDatabases(tools, control, renames, { inUse, signal });
  return replaced.length > 0 ? ms : undefined;
}

const DROP_LIMIT_MS = 60_000;

/** Makes the working database, fills it and compares it with the record. */
async function build(
  options: LoadOptions,
  control: Session,
  recorded: DatabaseFacts,
  { working }: Built,
): Promise<Compared & { warnings: string[] }> {
  const { tools, signal } = options;
  options.step(`restoring ${recorded.name} beside, as ${working}`);
  await control.run(createDatabase(working, recorded, control.versionNumber)).catch((error: unknown) => {
    throw new LifeboatError('PG_RESTORE_FAILED', `a database like ${recorded.name} cannot be made`, {
      cause: error,
      hint: `It has encoding ${recorded.encoding} and locale ${recorded.locale ?? recorded.collate}: use an image that has them. Nothing was changed.`,
    });
  });
  const grown = (bytes: number) =>
    options.progress({ phase: `restoring ${recorded.name}`, done: bytes, total: recorded.size });
  const { leftOut, warnings } = await fillDatabase({ ...options, grown }, recorded, working);
  options.step('comparing with what was recorded');
  const session = await tools.session(working, signal);
  try {
    return { ...(await compareDatabase(session, recorded, leftOut)), warnings };
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
async function clearBefore(options: LoadOptions, { target, before }: Built): Promise<string[]> {
  const outcome = await dropWorking(options.tools, { name: before, what: 'before' }, options.signal);
  if (outcome !== 'failed') options.forgetWorking(before);
  if (outcome !== 'kept') return [];
  return [`what stood under the name ${target} is kept as ${before}: it is not quite empty`];
}
