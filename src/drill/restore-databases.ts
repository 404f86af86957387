import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { checkDataSpace, readFacts, roomInSpool, selectedContent } from '../restore/content.ts';
import { fetchTree } from '../restore/fetch.ts';
import { restoreJobs } from '../sources/postgres/dump/jobs.ts';
import type { PostgresFacts } from '../sources/postgres/facts/facts.ts';
import { neededSpace } from '../sources/postgres/facts/present.ts';
import type { LoadOptions } from '../sources/postgres/load/build-database.ts';
import { loadGlobals } from '../sources/postgres/load/globals.ts';
import {
  buildDatabases,
  type FailedDatabase,
  type LoadedDatabase,
  swapDatabases,
} from '../sources/postgres/load/load.ts';
import { planLoad, recordedDatabase } from '../sources/postgres/load/load-plan.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import { SCRATCH } from '../sources/postgres/server/helper-mounts.ts';
import { databaseDirectory, quoteIdentifier } from '../sources/postgres/server/quote.ts';
import type { Session } from '../sources/postgres/server/session.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { refuseStrangeFiles } from '../sources/postgres/strange-files.ts';
import { SERVER_PORT } from '../sources/postgres/throwaway/start-server.ts';
import { type DrillDeps, limitsOf, type Part, step } from './context.ts';
import { DrillServer } from './drill-server.ts';

/** A server that holds the databases of a snapshot. */
export interface RestoredServer {
  /** id of its container */
  container: string;
  tools: Tools;
  facts: PostgresFacts;
  /** `globals.sql` of the snapshot; undefined if it has none */
  globals: string | undefined;
  databases: LoadedDatabase[];
  failed: FailedDatabase[];
  /** databases that were not restored, because they held nothing and exist on every server */
  left: { database: string; reason: string }[];
}

/**
 * Restores all databases and roles of a snapshot into a throwaway server, passes it to `work`, and removes it. The
 * restore is that of `lifeboat restore`: same programs, same comparisons, same order.
 */
export async function withRestoredServer(
  deps: DrillDeps,
  part: Part,
  image: Parameters<typeof DrillServer.start>[0]['image'],
  work: (restored: RestoredServer) => Promise<void>,
): Promise<void> {
  const facts = await readFacts({ source: part.source }, part.context);
  const { superuser, config } = facts.server;
  const present =
    part.planned?.kind === 'postgres' && part.planned.userFile === undefined ? part.planned.user : undefined;
  const user = superuser ?? present ?? 'postgres';
  const port = part.planned?.kind === 'postgres' ? part.planned.port : SERVER_PORT;
  const { agent } = deps;
  const options = { agent, image, limits: limitsOf(deps), part, user, port, preload: config?.preload };
  const server = await step(part, 'starting a throwaway server', () => DrillServer.start(options));
  const signal = AbortSignal.any([part.signal, server.full]);
  try {
    const inServer = { ...part, signal };
    const tools = await openTools(deps, inServer, server);
    try {
      await work(await explained(server, await restore(deps, inServer, tools, facts)));
      // A failed condition may have another cause than the data.
      const shortage = await server.shortage();
      if (shortage) throw shortage;
    } finally {
      await tools.close();
    }
  } catch (error) {
    throw part.signal.aborted ? part.signal.reason : await server.explain(error);
  } finally {
    await server.remove();
  }
}

/** A database may have failed only because the server had too little memory. */
async function explained(server: DrillServer, restored: Omit<RestoredServer, 'container'>): Promise<RestoredServer> {
  const failed: FailedDatabase[] = [];
  for (const { target, error } of restored.failed) failed.push({ target, error: await server.explain(error) });
  return { ...restored, failed, container: server.source.containerId };
}

function openTools(deps: DrillDeps, { context, signal, say }: Part, server: DrillServer): Promise<Tools> {
  const { id, journal, directory } = context;
  const share = { directory, access: 'read-only' as const };
  const application = applicationName(deps.project, id);
  return deps.openTools(server.source, {
    runId: id,
    application,
    journal,
    withData: true,
    share,
    limits: limitsOf(deps),
    signal,
    say,
  });
}

async function restore(
  deps: DrillDeps,
  part: Part,
  tools: Tools,
  facts: PostgresFacts,
): Promise<Omit<RestoredServer, 'container'>> {
  const { source, context, signal, say } = part;
  const plan = await planLoad({ tools, facts, signal });
  const tree = path.join(context.directory, 'tree');
  const select = ['globals.sql', ...plan.load.map(({ database }) => `databases/${databaseDirectory(database)}`)];
  const request = { source, signal };
  await roomInSpool(context, await selectedContent(request, context, select), 'drill');
  const sizes = plan.load.map(({ database }) => recordedDatabase(facts, database).size);
  await checkDataSpace(tools, { needed: neededSpace(sizes), why: 'the drill' }, signal);
  await step(part, 'fetching the dump', async () => {
    await fetchTree({ deps, request, context, directory: tree, select });
    await refuseStrangeFiles(tree, 'PG_RESTORE_FAILED');
  });
  return step(part, 'restoring the databases', async () => {
    const globals = context.entry.withoutGlobals ? undefined : await readFile(path.join(tree, 'globals.sql'), 'utf8');
    const control = await tools.control();
    if (globals === undefined) await createRoles(control, plan.missingRoles);
    else part.result.notes.push(...(await loadGlobals(control, globals)).warnings);
    const load = loadOptions(deps, part, { tools, facts, tree });
    const { built, failed } = await buildDatabases(load, plan.load);
    signal.throwIfAborted();
    const { databases, failed: unswapped } = await swapDatabases(load, built);
    signal.throwIfAborted();
    const left = plan.left;
    say(`  restored ${databases.map(({ target }) => target).join(', ') || 'nothing'}`);
    return { tools, facts, globals, databases, failed: [...failed, ...unswapped], left };
  });
}

/**
 * Creates the roles that databases name, for a snapshot without roles: what it holds can then be restored. Only a
 * superuser may own an event trigger and some other objects.
 */
async function createRoles(control: Session, names: readonly string[]): Promise<void> {
  for (const name of names) await control.run(`CREATE ROLE ${quoteIdentifier(name)} SUPERUSER LOGIN`);
}

const nothing = () => undefined;

/** The engine removes the server with all of its databases, so the journal needs to name none. */
function loadOptions(
  deps: DrillDeps,
  { context, signal, say }: Part,
  given: Pick<LoadOptions, 'tools' | 'facts' | 'tree'>,
): LoadOptions {
  const { id, directory, progress } = context;
  return {
    ...given,
    scratch: path.join(directory, SCRATCH),
    id: id.slice(-6),
    jobs: restoreJobs(),
    skipFailed: false,
    stallTimeoutMs: deps.stallTimeoutMs,
    signal,
    step: (text) => say(`  ${text}`),
    progress,
    recordWorking: nothing,
    forgetWorking: nothing,
    keepBefore: async () => undefined,
    recordDependents: nothing,
    forgetDependents: nothing,
    recordSwapped: nothing,
    recordFailed: nothing,
  };
}
