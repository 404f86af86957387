import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import { restoreTarget } from '../kept/target.ts';
import { restoreJobs } from '../sources/postgres/dump/jobs.ts';
import { readClients } from '../sources/postgres/facts/clients.ts';
import { type PostgresFacts, readServerFacts } from '../sources/postgres/facts/facts.ts';
import { describePresent, neededSpace } from '../sources/postgres/facts/present.ts';
import { type BuiltDatabase, discardDatabase, type LoadOptions } from '../sources/postgres/load/build-database.ts';
import { comparison } from '../sources/postgres/load/compare-database.ts';
import { careFor } from '../sources/postgres/load/extensions.ts';
import { loadGlobals } from '../sources/postgres/load/globals.ts';
import { buildDatabases, type FailedDatabase, longestSwap, swapDatabases } from '../sources/postgres/load/load.ts';
import { type LoadPlan, planLoad, recordedDatabase } from '../sources/postgres/load/load-plan.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import { SCRATCH } from '../sources/postgres/server/helper-mounts.ts';
import { databaseDirectory } from '../sources/postgres/server/quote.ts';
import { configNotes, readServerConfig } from '../sources/postgres/server/server-config.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { refuseStrangeFiles } from '../sources/postgres/strange-files.ts';
import { checkDataSpace, readFacts, roomInSpool, selectedContent } from './content.ts';
import type {
  KeptRecord,
  PreparedRestore,
  RestoreContext,
  RestoreDeps,
  Restored,
  RestorePreview,
  RestoreRequest,
} from './context.ts';
import { fetchTree, prepareDump } from './fetch.ts';
import { presentText } from './preview.ts';
import { prepareTables } from './table.ts';

/**
 * Prepares a restore of databases of a Postgres source: inspects the server, and decides which databases to create, to
 * replace and to leave alone. Nothing changes before `build`.
 */
export async function prepareDatabases(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
): Promise<PreparedRestore> {
  if (request.tables.length > 0 || request.as !== undefined) return prepareTables(deps, request, context);
  refuseOptions(request);
  await context.repository.checkObjects([context.entry.index, context.entry.facts, ...context.packs]);
  if (request.toDirectory !== undefined)
    return prepareDump({ deps, request, context, directory: request.toDirectory, select: [] });
  const facts = await readFacts(request, context);
  const planned = await restoreTarget(deps, request.to ?? request.source, 'postgres');
  const { id, journal } = context;
  const application = applicationName(deps.project, id);
  const { signal, say } = request;
  const share = { directory: context.directory, access: 'read-only' as const };
  const tools = await deps.openTools(planned, { runId: id, application, journal, withData: true, share, signal, say });
  try {
    const plan = await planLoad({ tools, facts, ...request });
    const select = pathsOf(plan);
    const preview = await look(tools, request, facts, plan);
    if (context.entry.withoutGlobals) preview.notes.push(...withoutRoles(request, plan));
    else if (request.globals || plan.missingRoles.length > 0)
      preview.creates.push(...rolesText(request.globals, plan.missingRoles));
    preview.target = planned;
    const content = await selectedContent(request, context, select);
    Object.assign(preview, { bytes: content.bytes, spool: await roomInSpool(context, content) });
    const tree = path.join(context.directory, 'tree');
    const warnings = context.entry.withoutGlobals ? withoutRoles(request, plan) : [];
    const work: Work = { deps, request, context, tools, facts, plan, tree, warnings, open: [], failed: [] };
    return {
      preview,
      clients: async () => readClients(await tools.control(), preview.replaces),
      fetch: async () => {
        request.say(`  fetching ${plan.load.map(({ database }) => database).join(', ') || 'roles'}`);
        await fetchTree({ deps, request, context, directory: tree, select });
        await refuseStrangeFiles(tree, 'PG_RESTORE_FAILED');
      },
      build: () => build(work),
      swap: (keep) => swap(work, keep),
      async close() {
        await discard(work);
        await tools.close();
      },
    };
  } catch (error) {
    await tools.close();
    throw error;
  }
}

/** Refuses options that exclude each other, before anything is read. @throws USAGE */
function refuseOptions({
  paths,
  toDirectory,
  database,
  toDatabase,
  globals,
  to,
  source,
  skipFailed,
}: RestoreRequest): void {
  const refuse = (message: string, hint: string) => {
    throw new LifeboatError('USAGE', message, { hint });
  };
  if (paths.length > 0) refuse(`${source} is a database, --path is for files`, 'Use --table schema.name for tables.');
  if (toDirectory === undefined) return;
  if (skipFailed) refuse('--to-directory writes the dump itself, so nothing can fail', 'Leave out --skip-failed.');
  if (database !== undefined || toDatabase !== undefined || globals || to !== undefined)
    refuse('--to-directory writes the whole dump and takes no database options', 'Leave them out.');
}

function pathsOf(plan: LoadPlan): string[] {
  const databases = plan.load.map(({ database }) => `databases/${databaseDirectory(database)}`);
  return ['globals.sql', ...databases];
}

async function look(
  tools: Tools,
  request: RestoreRequest,
  facts: PostgresFacts,
  plan: LoadPlan,
): Promise<RestorePreview> {
  const preview: RestorePreview = { replaces: [], creates: [], left: plan.left, bytes: 0, notes: [] };
  for (const { database, target, state } of plan.load) {
    preview.notes.push(...careFor(recordedDatabase(facts, database), 1).warnings);
    if (state !== 'data') {
      preview.creates.push(target);
      continue;
    }
    const present = await describePresent(tools, target, recordedDatabase(facts, database), request.signal);
    preview.replaces.push({ name: target, detail: presentText(present) });
    preview.notes.push(...present.notes);
  }
  preview.notes.push(...configNotes(facts.server.config, await readServerConfig(await tools.control())));
  const needed = neededSpace(plan.load.map(({ database }) => recordedDatabase(facts, database).size));
  const why = 'the restore alongside the present data';
  preview.space = await checkDataSpace(tools, { needed: plan.load.length > 0 ? needed : 0, why }, request.signal);
  return preview;
}

function rolesText(all: boolean, missing: readonly string[]): string[] {
  return [all ? 'roles that the server lacks' : `roles ${missing.join(', ')}`];
}

/** Warns of the consequences of a snapshot without roles for this restore. */
function withoutRoles({ globals }: RestoreRequest, { missingRoles }: LoadPlan): string[] {
  const how = 'create them with CREATE ROLE first, or take globals.sql out of an older snapshot with --to-directory';
  if (missingRoles.length > 0)
    return [`the snapshot has no roles, and the server lacks ${missingRoles.join(', ')}: ${how}`];
  return globals ? [`the snapshot has no roles, so --globals brings none: ${how}`] : [];
}

/** A restore of databases in progress. */
interface Work {
  deps: RestoreDeps;
  request: RestoreRequest;
  context: RestoreContext;
  tools: Tools;
  facts: PostgresFacts;
  plan: LoadPlan;
  tree: string;
  warnings: string[];
  /** databases that are built and not swapped */
  open: BuiltDatabase[];
  failed: FailedDatabase[];
}

function loadOptions(work: Work, keepBefore: LoadOptions['keepBefore']): LoadOptions {
  const { deps, request, tools, facts, tree } = work;
  const { id, journal, progress, directory } = work.context;
  const source = request.to ?? request.source;
  return {
    ...{ tools, facts, tree },
    scratch: path.join(directory, SCRATCH),
    id: id.slice(-6),
    jobs: restoreJobs(),
    skipFailed: request.skipFailed,
    stallTimeoutMs: deps.stallTimeoutMs,
    signal: request.signal,
    step: (text) => request.say(`  ${text}`),
    progress,
    recordWorking: (working) => journal.record({ type: 'database', source, ...working }),
    forgetWorking: (name) => journal.record({ type: 'database-done', source, name }),
    keepBefore,
    recordDependents: (target, oid) => journal.record({ type: 'dependents', source, target, oid }),
    forgetDependents: (target) => journal.record({ type: 'dependents-done', source, target }),
    recordSwapped: (target) => journal.record({ type: 'swapped', target }),
    recordFailed: (target) => journal.record({ type: 'failed', target }),
  };
}

/** Nothing is put aside before the swap, or after the last one. */
const KEEP_NOTHING = async () => undefined;

/** Creates roles, and builds all databases. Rejects if none can be built. */
async function build(work: Work): Promise<void> {
  const { request, tools, tree, plan, warnings } = work;
  warnings.unshift(...(await createRoles(request, tools, tree, request.globals ? undefined : plan.roles)));
  const { built, failed } = await buildDatabases(loadOptions(work, KEEP_NOTHING), plan.load);
  work.open = built;
  work.failed = failed;
  request.signal.throwIfAborted();
  if (built.length === 0) throwFirst(work);
}

async function swap(work: Work, keep: (kept: KeptRecord) => Promise<void>): Promise<Restored> {
  const { request, warnings, failed } = work;
  const { journal } = work.context;
  journal.record({ type: 'targets', targets: work.plan.load.map(({ target }) => target) });
  const options = loadOptions(work, (kept) => keep({ databases: [...kept] }));
  const { databases, failed: unswapped } = await swapDatabases(options, work.open);
  work.open = work.open.filter(({ target }) => unswapped.some((one) => one.target === target));
  failed.push(...unswapped);
  if (databases.length === 0) throwFirst(work);
  for (const one of databases) request.say(`  database ${one.target} is restored: ${comparison(one)}`);
  const server = await readServerFacts(await work.tools.control()).catch(() => undefined);
  return {
    ...(server && { system: server.systemIdentifier }),
    restored: databases.map(({ target, tables, rows, before }) => {
      return { target, tables, rows, ...(before === undefined ? {} : { kept: before }) };
    }),
    warnings: [...warnings, ...databases.flatMap((one) => one.warnings)],
    skipped: databases.flatMap(({ skipped }) => skipped),
    failed: failed.map(({ target, error }) => ({ target, error: errorInfo(error) })),
    steps: [{ name: 'analyse', durationMs: databases.reduce((sum, { analyseMs }) => sum + analyseMs, 0) }],
    ...longestSwap(databases),
  };
}

/** Rejects with the error of the first database that failed, if any. */
function throwFirst({ failed: [first], warnings, request }: Work): void {
  if (!first) return;
  // The error alone may not say why: a role that could not be created, for example.
  for (const warning of warnings) request.say(`  warning: ${warning}`);
  throw first.error;
}

/** Drops databases that were built and not swapped. */
async function discard(work: Work): Promise<void> {
  const options = loadOptions(work, KEEP_NOTHING);
  for (const one of work.open.splice(0)) await discardDatabase(options, one);
}

/** Creates all roles that the server lacks, or only those that `roles` need. */
async function createRoles(
  request: RestoreRequest,
  tools: Tools,
  tree: string,
  roles: readonly string[] | undefined,
): Promise<string[]> {
  const sql = await readFile(path.join(tree, 'globals.sql'), 'utf8');
  const { created, warnings } = await loadGlobals(await tools.control(), sql, roles);
  if (created.length > 0) request.say(`  created ${created.join(', ')}`);
  return warnings;
}
