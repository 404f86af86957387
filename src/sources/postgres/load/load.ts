import { type ErrorCode, hasCode } from '../../../base/errors.ts';
import type { Session } from '../server/session.ts';
import { type BuiltDatabase, buildDatabase, type KeptBefore, type LoadOptions } from './build-database.ts';
import type { Compared } from './compare-database.ts';
import { setProperties } from './create-database.ts';
import { checkRenamable, type PlannedLoad, targetExists, targetState } from './load-plan.ts';
import { recomputeDependents } from './recompute-dependents.ts';
import { dropWorking, readDatabases, renameDatabases } from './swap.ts';

/** A restored database that has its final name. */
export interface LoadedDatabase
  extends Compared,
    Pick<BuiltDatabase, 'lost' | 'unreachable' | 'skipped' | 'analyseMs' | 'warnings'> {
  target: string;
  /** tables that it has */
  tables: number;
  /** how long its name had no usable database, milliseconds; absent if no database was replaced */
  swapMs?: number;
  /** the name of the database that it replaced */
  before?: string;
}

/** A database that could not be restored, and is unchanged. */
export interface FailedDatabase {
  target: string;
  error: unknown;
}

/** After these errors, no other database can be restored either. */
const ENDS_ALL: readonly ErrorCode[] = [
  'PG_UNREACHABLE',
  'PG_AUTH',
  'ENGINE_UNREACHABLE',
  'INTERRUPTED',
  'PG_STALLED',
  'PG_NO_SPACE',
];

/**
 * Builds databases of a dump tree one by one, alongside the present ones (see {@link buildDatabase}). A database that
 * fails does not affect the others. Never rejects.
 */
export async function buildDatabases(
  options: LoadOptions,
  loads: readonly PlannedLoad[],
): Promise<{ built: BuiltDatabase[]; failed: FailedDatabase[] }> {
  const { done: built, failed } = await oneByOne(options, loads, (load) => buildDatabase(options, load));
  return { built, failed };
}

/**
 * Swaps built databases one by one (see {@link swapDatabase}). A database that fails does not affect the others. Never
 * rejects.
 */
export async function swapDatabases(
  options: LoadOptions,
  built: readonly BuiltDatabase[],
): Promise<{ databases: LoadedDatabase[]; failed: FailedDatabase[] }> {
  const kept: KeptBefore[] = [];
  const { done, failed } = await oneByOne(options, built, (one) => swapDatabase(options, one, kept));
  return { databases: done, failed };
}

async function oneByOne<I extends { target: string }, T>(
  { signal, recordFailed }: LoadOptions,
  items: readonly I[],
  work: (item: I) => Promise<T>,
): Promise<{ done: T[]; failed: FailedDatabase[] }> {
  const done: T[] = [];
  const failed: FailedDatabase[] = [];
  let ended: unknown;
  for (const item of items) {
    const { target } = item;
    if (ended !== undefined) {
      failed.push({ target, error: ended });
      continue;
    }
    try {
      done.push(await work(item));
    } catch (error) {
      recordFailed(target);
      failed.push({ target, error: signal.aborted ? signal.reason : error });
      if (signal.aborted) ended = signal.reason;
      else if (hasCode(error, ...ENDS_ALL)) ended = error;
    }
  }
  return { done, failed };
}

/**
 * Puts a built database in place: one transaction renames it to its target, and a database with data under that name to
 * `<target>__before_<id>`. Content that depends on the name of the database is computed again afterwards. The database
 * is therefore either unchanged or restored. On failure, the built database stays, and the caller drops it.
 *
 * @param kept databases that the same restore has put aside; the function adds its own
 * @throws PG_TARGET_EXISTS, PG_TARGET_BUSY; the errors of a session
 */
async function swapDatabase(options: LoadOptions, built: BuiltDatabase, kept: KeptBefore[]): Promise<LoadedDatabase> {
  const { tools, signal } = options;
  const { target, recorded, compared, lost, unreachable, dependents, skipped, analyseMs } = built;
  const warnings = [...built.warnings];
  signal.throwIfAborted();
  const control = await tools.control(target);
  warnings.push(...(await setProperties(control, recorded, built.working)));
  if (dependents.length > 0) await recordDependents(options, control, built);
  const { swapMs, aside } = await swap(options, control, built, kept);
  options.recordSwapped(target);
  options.forgetWorking(built.working);
  warnings.push(
    ...(await recomputeDependents(target, dependents, { open: () => tools.session(target, signal), signal })),
  );
  // Recovery computes again what an interrupt has left.
  if (!signal.aborted) options.forgetDependents(target);
  if (aside) warnings.push(...(await clearBefore(options, built)));
  return {
    ...{
      target,
      tables: recorded.tables.length - compared.missing.length,
      ...compared,
      lost,
      unreachable,
      skipped,
      analyseMs,
      warnings,
    },
    ...(built.state === 'data' ? { before: built.before } : {}),
    ...(swapMs === undefined ? {} : { swapMs }),
  };
}

async function recordDependents(
  options: LoadOptions,
  control: Session,
  { target, working }: BuiltDatabase,
): Promise<void> {
  const oid = (await readDatabases(control, [working])).get(working)?.oid;
  if (oid !== undefined) options.recordDependents(target, oid);
}

/** @returns `swapMs`: how long a used database was unavailable; `aside`: an empty one was renamed, to be dropped */
async function swap(
  options: LoadOptions,
  control: Session,
  { target, working, before, ...one }: BuiltDatabase,
  kept: KeptBefore[],
): Promise<{ swapMs?: number; aside: boolean }> {
  const { tools, signal } = options;
  // Building may have taken hours since the last check.
  const now = await targetState(tools, control, target, signal);
  if (now === 'data' && one.state !== 'data') throw targetExists(target, tools.container);
  const stands = now !== 'absent';
  if (stands) await checkRenamable(control, target, tools.container);
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

/** Drops the empty database that had the target's name, unless somebody has used it since. */
async function clearBefore(options: LoadOptions, { target, before }: BuiltDatabase): Promise<string[]> {
  const outcome = await dropWorking(options.tools, { name: before, what: 'before' }, options.signal);
  if (outcome !== 'failed') options.forgetWorking(before);
  if (outcome !== 'kept') return [];
  return [`the database that was called ${target} is not empty any more, and stays as ${before}`];
}

/**
 * Returns the longest time that a name had no usable database, milliseconds. Databases are swapped one after the other.
 */
export function longestSwap(databases: readonly LoadedDatabase[]): { withoutDataMs?: number } {
  const away = databases.flatMap(({ swapMs }) => (swapMs === undefined ? [] : [swapMs]));
  return away.length === 0 ? {} : { withoutDataMs: Math.max(...away) };
}
