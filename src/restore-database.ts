import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from './errors.ts';
import { formatCount } from './report/format.ts';
import {
  type RestoreContext,
  type RestoreDeps,
  type RestoreRequest,
  type RestoreResult,
  restoreTarget,
} from './restore-context.ts';
import type { PostgresFacts } from './sources/postgres/facts.ts';
import { loadGlobals } from './sources/postgres/globals.ts';
import { loadDatabase } from './sources/postgres/load.ts';
import { type LoadPlan, planLoad } from './sources/postgres/load-plan.ts';
import { applicationName, toolJobs } from './sources/postgres/postgres-source.ts';
import { databaseDirectory } from './sources/postgres/quote.ts';
import type { Tools } from './sources/postgres/tools.ts';
import type { ExtractedTree } from './store/extract-tree.ts';

/** Brings the selected paths of the source's tree to a directory. */
type Fetch = (directory: string, select: string[]) => Promise<ExtractedTree>;

type Restored = Pick<RestoreResult, 'restored' | 'left' | 'warnings'>;

/** Databases of a Postgres source: decide → fetch → globals → load, or only fetch. */
export async function restoreDatabases(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
  fetch: Fetch,
): Promise<Restored> {
  const { id, journal, entry, repository } = context;
  if (request.toDirectory !== undefined) return dumpToDirectory(request, request.toDirectory, fetch);
  if (!entry.facts)
    throw new LifeboatError('OBJECT_MISSING', `snapshot ${context.snapshot.id} has no facts of ${request.source}`);
  const facts = (await repository.readFacts(entry.facts)) as PostgresFacts;
  const planned = await restoreTarget(deps, request.source, 'postgres');
  const application = applicationName(deps.project, id);
  const tools = await deps.openTools(planned, { runId: id, application, journal, signal: request.signal });
  try {
    const plan = await planLoad({ tools, facts, ...request });
    for (const { database, reason } of plan.left) request.say(`  leaving ${database} as it is: ${reason}`);
    if (plan.load.length === 0 && !request.globals) return { restored: [], left: plan.left, warnings: [] };
    const tree = path.join(context.directory, 'tree');
    request.say(`  fetching ${plan.load.map(({ database }) => database).join(', ') || 'globals'}`);
    await fetch(tree, ['globals.sql', ...plan.load.map(({ database }) => `databases/${databaseDirectory(database)}`)]);
    const warnings = request.globals ? await createRoles(request, tools, tree) : [];
    return await loadAll(deps, request, context, { tools, facts, plan, tree, warnings });
  } finally {
    await tools.close();
  }
}

async function loadAll(
  deps: RestoreDeps,
  request: RestoreRequest,
  { id, journal }: RestoreContext,
  {
    tools,
    facts,
    plan,
    tree,
    warnings,
  }: { tools: Tools; facts: PostgresFacts; plan: LoadPlan; tree: string; warnings: string[] },
): Promise<Restored> {
  const { source, signal } = request;
  const restored: RestoreResult['restored'] = [];
  for (const { database, target } of plan.load) {
    const loaded = await loadDatabase({
      tools,
      facts,
      database,
      target,
      tree,
      id: id.slice(-6),
      jobs: toolJobs(),
      stallTimeoutMs: deps.stallTimeoutMs,
      signal,
      step: (text) => request.say(`  ${text}`),
      recordWorking: (working) => journal.record({ type: 'database', source, ...working }),
      forgetWorking: (name) => journal.record({ type: 'database-done', source, name }),
    });
    restored.push({ target, tables: loaded.tables, rows: loaded.rows });
    warnings.push(...loaded.warnings);
    request.say(
      `  database ${target} is there: ${formatCount(loaded.tables)} tables, ${formatCount(loaded.rows)} rows compared and equal`,
    );
  }
  return { restored, left: plan.left, warnings };
}

async function createRoles(request: RestoreRequest, tools: Tools, tree: string): Promise<string[]> {
  request.say('  creating missing roles');
  const sql = await readFile(path.join(tree, 'globals.sql'), 'utf8');
  const { created, warnings } = await loadGlobals(await tools.control(), sql);
  if (created.length > 0) request.say(`  created ${created.join(', ')}`);
  return warnings;
}

/** The dump itself, for whoever wants to run `pg_restore` by hand. */
async function dumpToDirectory(request: RestoreRequest, directory: string, fetch: Fetch): Promise<Restored> {
  const { files, bytes } = await fetch(directory, []);
  request.say(`  the dump is in ${directory}: one pg_dump directory for each database, and globals.sql`);
  return { restored: [{ target: directory, files, bytes }], left: [], warnings: [] };
}
