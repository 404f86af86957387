import path from 'node:path';
import { LifeboatError } from '../../../base/errors.ts';
import type { SkippedObject } from '../../../report/events.ts';
import { plural } from '../../../report/format.ts';
import type { ArchiveEntry } from '../archive/archive.ts';
import { describeFailure, type Failure, failureText, refusedHint } from '../archive/restore-failures.ts';
import { listedIds, readEntries, restorePasses, type Stage } from '../archive/restore-passes.ts';
import { type RunRestoreOptions, runRestore, TangledError } from '../archive/run-restore.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { listCommand } from '../server/commands.ts';
import { databaseDirectory } from '../server/quote.ts';
import { type Tools, withSession } from '../server/tools.ts';
import type { Allowance } from './compare-database.ts';
import { careFor, listWithout } from './extensions.ts';
import { fillWithoutConstraints } from './heal-constraints.ts';
import { healFailures, isHealable } from './heal-failures.ts';
import { grantIds, grantOneByOne } from './heal-grants.ts';
import { allowanceFor } from './restore-allowance.ts';
import { subscriptionWarnings } from './restore-warnings.ts';

interface FillOptions {
  tools: Tools;
  /** the fetched tree, as the agent and the helper both see it */
  tree: string;
  /** directory into which the helper may write, as the agent and the helper both see it */
  scratch: string;
  jobs: number;
  stallTimeoutMs: number;
  signal: AbortSignal;
  /** leave out the objects that the server refuses, instead of failing */
  skipFailed: boolean;
  /** roles that have rights on objects and that the server lacks: the restore leaves these rights out */
  missingRoles: readonly string[];
  /** the server has the tablespaces of the dump; else everything goes into the default one */
  tablespaces: boolean;
  /** Moves objects into their tablespaces, before event triggers exist that would fire for it. Resolves to warnings. */
  moveObjects(): Promise<string[]>;
  /** Receives the size of the database, bytes, about once a second. */
  grown(bytes: number): void;
}

/** The result of {@link fillDatabase}. */
interface Filled {
  /** the differences from the record that the database may have */
  allowance: Allowance;
  /** the objects that the server refused, with `skipFailed` */
  skipped: SkippedObject[];
  /** materialized views that are empty because their refresh could not reach another server, `schema.name` */
  unreachable: string[];
  warnings: string[];
}

/**
 * Runs `pg_restore` of a recorded database into an empty one. Materialized views and event triggers come last; a view
 * that cannot be refreshed is a warning. Other objects that the server refuses are tried again in another way if there
 * is one.
 *
 * @throws {@link TangledError} with more than one job, if it is not certain which objects failed; PG_RESTORE_FAILED
 * with the first refused objects, unless `skipFailed`; PG_NO_SPACE, PG_STALLED; the errors of a session
 */
export async function fillDatabase(options: FillOptions, recorded: DatabaseFacts, name: string): Promise<Filled> {
  const { tools, signal, tree } = options;
  const care = careFor(recorded, options.jobs);
  const directory = path.posix.join(tree, 'databases', databaseDirectory(recorded.name));
  await withSession(options, name, care.before);
  const only =
    care.leftOut.length > 0
      ? listedIds(listWithout(await tools.run(listCommand(directory), signal), care.leftOut))
      : undefined;
  const entries = await readEntries(directory);
  const run = describeRun(options, recorded, { directory, name, jobs: care.jobs });
  const failures: Failure[] = [];
  const missing = options.missingRoles;
  const grants = missing.length > 0 ? grantIds(entries) : new Set<number>();
  const stops = (found: readonly Failure[]) =>
    !found.some(isHealable) && found.some(({ dumpId }) => !grants.has(dumpId));
  const passes = await restorePasses(directory, tree, only);
  const of = (stage: Stage) => passes.filter((pass) => pass.stage === stage);
  for (const { list } of of('load')) {
    failures.push(...(await runRestore(run, { ...given(list), ...(options.skipFailed ? {} : { stops }) })));
    if (!options.skipFailed && stops(failures)) break;
  }
  const healed = await healFailures(run, recorded, entries, failures);
  const granting = { entries, failures: healed.failures, missing };
  const granted = await grantOneByOne(() => tools.session(name, signal), recorded.name, granting);
  const {
    failures: left,
    lost: constraints,
    gone,
  } = options.skipFailed
    ? await fillWithoutConstraints(run, entries, granted.failures)
    : { failures: granted.failures, lost: [], gone: 0 };
  const skipped = [...refused(options, recorded, entries, left), ...constraints];
  const unrefreshed: Failure[] = [];
  const unmade: Failure[] = [];
  for (const { list } of of('attach')) unmade.push(...(await restoreOnce(run, list)));
  for (const { list } of of('refresh')) unrefreshed.push(...(await restoreOnce(run, list)));
  const stale = await healFailures(run, recorded, entries, unrefreshed);
  const moving = await options.moveObjects();
  for (const { list } of of('events')) unmade.push(...(await restoreOnce(run, list)));
  skipped.push(...refused(options, recorded, entries, unmade));
  const lost = new Set([...left, ...unmade].map(({ dumpId }) => dumpId));
  const leftOut = only && entries.filter(({ dumpId }) => !only.includes(dumpId)).map(({ dumpId }) => dumpId);
  return {
    allowance: allowanceFor(entries, lost, { moved: healed.moved, leftOut: new Set(leftOut), checks: gone }),
    skipped,
    unreachable: unreachableViews(entries, stale.failures),
    warnings: [
      ...care.warnings,
      ...granted.warnings,
      ...subscriptionWarnings(recorded, entries, lost),
      ...unrefreshedWarnings(recorded, entries, lost, stale.failures),
      ...moving,
    ],
  };
}

/** Returns the options that all calls of `pg_restore` for one database share. */
function describeRun(
  { tools, tree, scratch, signal, stallTimeoutMs, tablespaces, grown }: FillOptions,
  recorded: DatabaseFacts,
  { directory, name, jobs }: { directory: string; name: string; jobs: number },
): RunRestoreOptions {
  return {
    ...{ tools, directory, signal, stallTimeoutMs, scratch, jobs, tablespaces },
    ...{ about: recorded.name, database: name, lists: tree },
    async grows() {
      const control = await tools.control();
      const { size } = await control.one<{ size: string }>('SELECT pg_database_size($1)::text AS size', [name]);
      grown(Number(size));
      return size;
    },
  };
}

/** Restores the entries of a later stage, again with one worker if it is not certain which one failed. */
async function restoreOnce(run: RunRestoreOptions, list: string | undefined): Promise<Failure[]> {
  return runRestore(run, given(list)).catch((error: unknown) => {
    if (!(error instanceof TangledError)) throw error;
    return runRestore(run, { ...given(list), jobs: 1 });
  });
}

const given = (list: string | undefined) => (list === undefined ? {} : { list });

/** The most objects that an error names. */
const NAMED = 3;

/** Describes the objects that the server refused. @throws PG_RESTORE_FAILED unless they are skipped */
function refused(
  { skipFailed }: FillOptions,
  { name }: DatabaseFacts,
  entries: readonly ArchiveEntry[],
  failures: readonly Failure[],
): SkippedObject[] {
  const byId = new Map(entries.map((entry) => [entry.dumpId, entry]));
  const objects = failures.map(({ dumpId, words }) => {
    const entry = byId.get(dumpId);
    if (entry) return describeFailure(name, entry, words);
    return { database: name, kind: 'entry', name: String(dumpId), message: words };
  });
  if (objects.length === 0 || skipFailed) return objects;
  const named = objects.slice(0, NAMED).map(failureText).join('; ');
  const more = objects.length <= NAMED ? '' : `; and ${plural(objects.length - NAMED, 'other object')}`;
  throw new LifeboatError('PG_RESTORE_FAILED', `database ${name} cannot be restored whole: ${named}${more}`, {
    hint: refusedHint(failures),
  });
}

/** Leaves out views that are missing: they are reported already. */
function unrefreshedWarnings(
  { name }: DatabaseFacts,
  entries: readonly ArchiveEntry[],
  missing: ReadonlySet<number>,
  failures: readonly Failure[],
): string[] {
  return failures.flatMap(({ dumpId, words }) => {
    const entry = entries.find((candidate) => candidate.dumpId === dumpId);
    if (!entry || entry.dependencies.some((id) => missing.has(id))) return [];
    return [
      `database ${name}: materialized view ${entry.schema}.${entry.tag} exists but is empty, and cannot be read before it is refreshed (${entry.definition.trim()}): ${words}`,
    ];
  });
}

/** How libraries and extensions say that a server cannot be reached. */
const NO_CONNECTION =
  /could ?n[o']t (connect|establish|resolve|translate host)|can ?not connect|(unable|failed) to connect|connection (was |is )?(refused|timed out)|connection .*cannot be established|network is unreachable|no route to host|name resolution/i;

/** Returns the views whose refresh failed because a server could not be reached. */
export function unreachableViews(entries: readonly ArchiveEntry[], failures: readonly Failure[]): string[] {
  const remote = new Set(failures.filter(({ words }) => NO_CONNECTION.test(words)).map(({ dumpId }) => dumpId));
  return entries.filter(({ dumpId }) => remote.has(dumpId)).map(({ schema, tag }) => `${schema}.${tag}`);
}
