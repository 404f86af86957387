import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { unlessAborted } from '../../base/abort.ts';
import { LifeboatError } from '../../base/errors.ts';
import { WAL_RUN } from '../../docker/helper-labels.ts';
import { hasHelpers, REMOVE_HINT } from '../../docker/remove-helper.ts';
import type { PostgresSource } from '../../plan/model.ts';
import { removePath } from '../../store/filesystem/remove-tree.ts';
import { imageDigest } from '../image-digest.ts';
import type { CaptureContext, CapturedTree, Source } from '../source.ts';
import { dumpServer } from './dump/dump-server.ts';
import { type DumpedServer, leaveOutUnsound, toTree } from './dump/dumped-server.ts';
import { DumpTooLarge } from './dump/spool-room.ts';
import { type Aside, chooseDatabases, type DatabaseListing, listDatabases, missingNamed } from './facts/databases.ts';
import { readServerFacts, type ServerFacts } from './facts/facts.ts';
import { restoreWarnings } from './facts/rights.ts';
import { readMemberships } from './load/globals.ts';
import { openTools } from './server/helper-tools.ts';
import { explainRestart, restarted, type Watched } from './server/restarted.ts';
import { readServerConfig } from './server/server-config.ts';
import type { AgentContext, Tools } from './server/tools.ts';
import { withWatchdog } from './server/watchdog.ts';
import { openAnswering, whenUp } from './server/when-up.ts';
import { refuseStrangeFiles } from './strange-files.ts';

interface PostgresSourceOptions {
  agent: AgentContext;
  planned: PostgresSource;
  recordHelper(name: string): void;
  /** Returns the databases that restores put aside for a rollback. */
  putAside(listed: readonly DatabaseListing[]): Promise<Aside[]>;
  /** another run's sessions are active on purpose: those of a restore that takes a safety snapshot */
  alongsideRun?: boolean;
}

/**
 * Returns the name in `pg_stat_activity` of the sessions of a run, at most 63 bytes. Its prefix identifies the project.
 */
export function applicationName(project: string, runId: string): string {
  return `lifeboat ${createHash('sha256').update(project).digest('hex').slice(0, 6)} ${runId}`;
}

/**
 * Creates a source for a Postgres container. Its tree has `globals.sql`, and for each database `databases/<name>/`, the
 * output of `pg_dump -Fd`. load.ts restores it.
 */
export function createPostgresSource(options: PostgresSourceOptions): Source {
  const { planned } = options;
  return {
    name: planned.name,
    kind: 'postgres',
    async capture<T>(context: CaptureContext, store: (tree: CapturedTree) => Promise<T>): Promise<T> {
      return store(await capturePostgres(options, context));
    },
  };
}

/**
 * Dumps a server into the spool. The helper is removed before this function returns, so that it does not stay near the
 * database longer than necessary.
 *
 * @param done called when the dump has succeeded or failed, before the check that no helper can still change the dump
 * @throws PG_*, HELPER_FAILED, SPOOL_FULL, ENGINE_*
 */
export async function capturePostgres(
  options: PostgresSourceOptions,
  context: CaptureContext,
  done: () => Promise<void> = async () => undefined,
): Promise<CapturedTree> {
  const server = await dumpInRoom(options, context).finally(done);
  await refuseLivingHelper(options, context);
  const sound = await leaveOutUnsound(options.planned, context, server);
  await refuseStrangeFiles(context.spool, 'PG_DUMP_FAILED');
  const digest = await imageDigest(options.agent.engine, options.planned.imageId, context.signal);
  return { ...toTree(options.planned, context, sound), ...(digest === undefined ? {} : { imageDigest: digest }) };
}

/**
 * Refuses a dump that a living helper may still change: its image is untrusted, so the dump is neither inspected nor
 * stored.
 */
async function refuseLivingHelper({ agent, planned }: PostgresSourceOptions, { runId }: CaptureContext): Promise<void> {
  if (!(await hasHelpers(agent.engine, agent.project, runId))) return;
  throw new LifeboatError(
    'HELPER_FAILED',
    `a helper of ${planned.name} could not be removed, and may still change the dump`,
    { hint: REMOVE_HINT },
  );
}

/** Dumps a server, and once more with compression if the spool has too little room for an uncompressed dump. */
async function dumpInRoom(options: PostgresSourceOptions, context: CaptureContext): Promise<DumpedServer> {
  try {
    return await dumpAll(options, context, false);
  } catch (error) {
    if (!(error instanceof DumpTooLarge)) throw error;
    context.log.info('the spool has too little room; dumping again, compressed', { source: options.planned.name });
    await refuseLivingHelper(options, context);
    for (const name of await readdir(context.spool)) await removePath(context.spool, name);
    return dumpAll(options, context, true);
  }
}

async function dumpAll(
  options: PostgresSourceOptions,
  context: CaptureContext,
  compressed: boolean,
): Promise<DumpedServer> {
  const { planned, agent } = options;
  const { containerId: id, containerName: name } = planned;
  const { engine } = agent;
  const watched = { engine, id, name, since: new Date(), signal: context.signal };
  const { tools, startedAt } = await openWhenUp(options, context, watched);
  try {
    const { server, config, listed } = await askQuickly(options, context, async () => {
      const control = await tools.control();
      const server = await readServerFacts(control);
      if (!options.alongsideRun) await endLeftovers(tools, agent.project, tools.connection.application);
      return { server, config: await readServerConfig(control), listed: await listDatabases(control) };
    });
    const chosen = chooseDatabases(planned, listed, await options.putAside(listed));
    const { stallTimeoutMs } = agent;
    const { databases } = chosen;
    const dump = await dumpServer({ tools, server, source: planned, context, databases, stallTimeoutMs, compressed });
    const memberships = await askQuickly(options, context, async () => readMemberships(await tools.control()));
    const after = await askQuickly(options, context, async () => {
      await checkNotRestarted(options, tools, server);
      return restoreWarnings(await tools.control(), dump.databases);
    });
    const before = [...missingNamed(planned, tools.named, listed), ...chosen.warnings];
    return { dump, facts: { server: { ...server, config }, memberships }, chosen, warnings: { before, after } };
  } catch (error) {
    throw await explainRestart(error, { ...watched, startedAt });
  } finally {
    await tools.close();
  }
}

/**
 * Opens the tools, and waits for a server that is starting. `startedAt` identifies the start of the container that the
 * run reads from.
 */
function openWhenUp(
  options: PostgresSourceOptions,
  context: CaptureContext,
  watched: Omit<Watched, 'startedAt'>,
): Promise<{ tools: Tools; startedAt: string }> {
  const { planned, agent, recordHelper } = options;
  const { runId, log, signal } = context;
  const application = applicationName(agent.project, runId);
  const onWait = (phase: string) => context.progress({ phase, done: 0, waits: true });
  let startedAt: string | undefined;
  const attempt = async () => {
    startedAt = (await agent.engine.inspectContainer(planned.containerId)).startedAt;
    const share = { directory: context.spool, access: 'read-write' as const };
    const open = () => openTools({ agent, source: planned, application, runId, recordHelper, share, log, signal });
    const tools = await openAnswering(open, (opened) => askQuickly(options, context, () => opened.control()));
    return { tools, startedAt };
  };
  return whenUp({ ...watched, log, onWait }, attempt).catch(async (error: unknown) => {
    throw startedAt === undefined ? error : await explainRestart(error, { ...watched, startedAt });
  });
}

/**
 * Runs a few quick queries. A server that takes longer than the stall timeout counts as hanging.
 *
 * @throws PG_STALLED
 */
function askQuickly<T>(
  { agent, planned }: PostgresSourceOptions,
  { signal }: CaptureContext,
  ask: () => Promise<T>,
): Promise<T> {
  const what = `the inspection of ${planned.containerName}`;
  return withWatchdog({ timeoutMs: agent.stallTimeoutMs, pulses: [], signal, what }, (watched) =>
    unlessAborted(ask(), watched),
  );
}

/** Ends the sessions that a crashed run of this project left behind, before this run opens its own. */
async function endLeftovers(tools: Tools, project: string, application: string): Promise<void> {
  const control = await tools.control();
  const rows = await control.all<{ pid: number }>(
    `SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE starts_with(application_name, $1) AND application_name <> ALL($2)`,
    [applicationName(project, ''), [application, applicationName(project, WAL_RUN)]],
  );
  if (rows.length > 0) tools.log.warn('ended sessions left by an earlier run', { sessions: rows.length });
}

async function checkNotRestarted(options: PostgresSourceOptions, tools: Tools, before: ServerFacts): Promise<void> {
  const after = await readServerFacts(await tools.control());
  if (after.startedAt !== before.startedAt || after.systemIdentifier !== before.systemIdentifier) {
    throw restarted(options.planned.containerName);
  }
}
