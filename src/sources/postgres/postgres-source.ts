import { createHash } from 'node:crypto';
import { mkdir, rm, statfs } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { LifeboatError } from '../../errors.ts';
import type { PostgresSource } from '../../plan/model.ts';
import type { CaptureContext, CapturedTree, Source } from '../source.ts';
import type { DumpCompression } from './commands.ts';
import { type Aside, chooseDatabases, type DatabaseListing, listDatabases } from './databases.ts';
import { dumpDatabase, lacksZstd } from './dump.ts';
import { dumpGlobals } from './dump-globals.ts';
import { type DatabaseFacts, type PostgresFacts, readServerFacts, type ServerFacts } from './facts.ts';
import { runPool, type Task } from './pool.ts';
import { explainAway, restarted, type Watched } from './restarted.ts';
import { collationWarnings, rowsOf, summarise } from './summary.ts';
import { type AgentContext, openTools, type Tools } from './tools.ts';
import { unlessAborted, withWatchdog } from './watchdog.ts';
import { whenUp } from './when-up.ts';

export interface PostgresSourceOptions {
  agent: AgentContext;
  planned: PostgresSource;
  recordHelper(name: string): void;
  /** databases that restores keep for a rollback */
  kept(): Promise<Aside[]>;
  /** sessions of another run of ours are at work on purpose: a restore that takes a safety snapshot */
  besideOthers?: boolean;
}

/** The tools gain nothing from more jobs than this on one host that also runs the database. */
const MAX_JOBS = 4;

/** A database up to this size is small: starting its dump takes longer than its data. 64 MiB. */
const SMALL = 64 * 1024 ** 2;

/**
 * Small databases are dumped so many at a time, each over two connections of ours. With the one that watches over the
 * run, that is the most connections a run ever has.
 */
const SMALL_AT_ONCE = 4;

/**
 * Share of a database's size that a zstd dump may need in the spool. Measured dumps are at 10–35 % (indexes are not
 * dumped); data that does not compress is caught when the disk is full.
 */
const ZSTD_SHARE = 0.5;

/** The `pg_stat_activity` prefix of every session of a project: at most 63 bytes with the run's id. */
export function applicationName(project: string, runId: string): string {
  return `lifeboat ${createHash('sha256').update(project).digest('hex').slice(0, 6)} ${runId}`;
}

/** How many workers of `pg_dump` to use on this machine: the agent hashes and packs beside them. */
function dumpJobs(): number {
  return Math.max(2, Math.min(MAX_JOBS, availableParallelism()));
}

/**
 * How many workers of `pg_restore` to use: one more than there are processors, since each waits for the disk at times and
 * nothing else of ours is at work (Postgres docs, pg_restore, `--jobs`: more than processors is often faster).
 */
export function restoreJobs(): number {
  return Math.max(2, Math.min(MAX_JOBS, availableParallelism() + 1));
}

/**
 * A Postgres container as a source. Its tree: `globals.sql`, and for each database `databases/<name>/` as `pg_dump -Fd`
 * makes it. Loading is in load.ts.
 */
export function createPostgresSource(options: PostgresSourceOptions): Source {
  const { planned } = options;
  return {
    name: planned.name,
    kind: 'postgres',
    async capture<T>(context: CaptureContext, store: (tree: CapturedTree) => Promise<T>): Promise<T> {
      // The helper is gone before the tree is stored: nothing of ours stays near the database longer than it must.
      return store(await dumpAll(options, context));
    },
  };
}

async function dumpAll(options: PostgresSourceOptions, context: CaptureContext): Promise<CapturedTree> {
  const { planned, agent } = options;
  const { containerId: id, containerName: name } = planned;
  const { engine } = agent;
  const watched = { engine, id, name, since: new Date(), signal: context.signal };
  const { tools, startedAt } = await openWhenUp(options, context, watched);
  try {
    const { server, listed } = await soon(options, context, async () => {
      const control = await tools.control();
      const server = await readServerFacts(control);
      if (!options.besideOthers) await endLeftovers(tools, agent.project, tools.connection.application);
      return { server, listed: await listDatabases(control) };
    });
    const { databases, warnings: closed } = chooseDatabases(planned, listed, await options.kept());
    const zstd = server.versionNumber >= 160000;
    const { warnings, ...dumped } = await dumpCompressed(options, context, tools, databases, zstd);
    const facts: PostgresFacts = { kind: 'postgres', server, ...dumped, rows: rowsOf(dumped.databases) };
    await soon(options, context, () => checkNotRestarted(options, tools, server));
    return {
      root: context.spool,
      reach: { kind: 'here' },
      include: [],
      exclude: [],
      facts,
      summary: summarise(facts),
      warnings: [...closed, ...warnings, ...collationWarnings(facts)],
      image: planned.imageId,
    };
  } catch (error) {
    throw await explainAway(error, { ...watched, startedAt });
  } finally {
    await tools.close();
  }
}

/** Waits for a server that is starting. `startedAt`: the start of its container that the run reads from. */
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
    const tools = await openTools({ agent, source: planned, application, runId, recordHelper, log, signal });
    try {
      await soon(options, context, () => tools.control());
      return { tools, startedAt };
    } catch (error) {
      await tools.close();
      throw error;
    }
  };
  return whenUp({ ...watched, log, onWait }, attempt).catch(async (error: unknown) => {
    throw startedAt === undefined ? error : await explainAway(error, { ...watched, startedAt });
  });
}

/** A few questions that no server needs long to answer: one that does hangs. Errors: PG_STALLED. */
function soon<T>(
  { agent, planned }: PostgresSourceOptions,
  { signal }: CaptureContext,
  ask: () => Promise<T>,
): Promise<T> {
  const what = `the look at ${planned.containerName}`;
  return withWatchdog({ timeoutMs: agent.stallTimeoutMs, pulses: [], signal, what }, (watched) =>
    unlessAborted(ask(), watched),
  );
}

/** What was dumped, and what to tell of it. */
type Dumped = Pick<PostgresFacts, 'compression' | 'databases'> & { warnings: string[] };

/** With zstd where the server's version has it; once more without when its `pg_dump` turns out to be built without. */
async function dumpCompressed(
  options: PostgresSourceOptions,
  context: CaptureContext,
  tools: Tools,
  databases: DatabaseListing[],
  zstd: boolean,
): Promise<Dumped> {
  const compression: DumpCompression = zstd ? 'zstd' : 'none';
  await checkSpool(context.spool, databases, compression);
  try {
    return { compression, ...(await dumpDatabases(options, context, tools, databases, compression)) };
  } catch (error) {
    if (!zstd || !lacksZstd(error)) throw error;
    context.log.info('this pg_dump has no zstd; dumping without', { source: options.planned.name });
    await rm(databasesOf(context), { recursive: true, force: true });
    return dumpCompressed(options, context, tools, databases, false);
  }
}

function databasesOf(context: CaptureContext): string {
  return path.posix.join(context.spool, 'databases');
}

/** Dumps globals and databases: large ones one after the other with all workers, then small ones several at a time. */
async function dumpDatabases(
  options: PostgresSourceOptions,
  context: CaptureContext,
  tools: Tools,
  databases: DatabaseListing[],
  compression: DumpCompression,
): Promise<Omit<Dumped, 'compression'>> {
  const { planned } = options;
  const { stallTimeoutMs } = options.agent;
  const parent = databasesOf(context);
  await mkdir(parent, { mode: 0o700 });
  const dumped = new Map<string, { bytes: number; facts?: DatabaseFacts }>();
  const dump =
    (name: string, jobs: number): Task =>
    async (signal) => {
      const mine: { bytes: number; facts?: DatabaseFacts } = { bytes: 0 };
      dumped.set(name, mine);
      const progress = (bytes: number) => {
        mine.bytes = bytes;
        const done = [...dumped.values()].reduce((sum, one) => sum + one.bytes, 0);
        context.progress({ phase: `dumping ${name}`, done });
      };
      const { excludeTableData } = planned;
      const settings = { parent, jobs, compression, excludeTableData, stallTimeoutMs };
      mine.facts = await dumpDatabase({ tools, database: name, ...settings, signal, progress });
      context.log.debug('database dumped', { source: planned.name, database: name, bytes: mine.bytes });
    };
  const large = databases.filter(({ size }) => size > SMALL).map(({ name }) => dump(name, dumpJobs()));
  const small = databases.filter(({ size }) => size <= SMALL).map(({ name }) => dump(name, 1));
  const warnings: string[] = [];
  const globals: Task = async (signal) => {
    warnings.push(...(await dumpGlobals({ tools, directory: context.spool, stallTimeoutMs, signal })));
  };
  await runPool(large, 1, context.signal);
  await runPool([globals, ...small], SMALL_AT_ONCE, context.signal);
  return { databases: databases.flatMap(({ name }) => dumped.get(name)?.facts ?? []), warnings };
}

/** Sessions of an earlier run of this project that died: cancelled through SQL, before ours begin. */
async function endLeftovers(tools: Tools, project: string, application: string): Promise<void> {
  const control = await tools.control();
  const rows = await control.all<{ pid: number }>(
    `SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE starts_with(application_name, $1) AND application_name <> $2`,
    [applicationName(project, ''), application],
  );
  if (rows.length > 0) tools.log.warn('ended sessions left by an earlier run', { sessions: rows.length });
}

async function checkSpool(spool: string, databases: DatabaseListing[], compression: DumpCompression): Promise<void> {
  const { bavail, bsize } = await statfs(spool);
  const size = databases.reduce((sum, database) => sum + database.size, 0);
  const need = size * (compression === 'zstd' ? ZSTD_SHARE : 1);
  if (bavail * bsize >= need) return;
  const mib = (bytes: number) => `${Math.round(bytes / 1024 ** 2)} MiB`;
  throw new LifeboatError('SPOOL_FULL', `the spool has ${mib(bavail * bsize)} free, the dump may need ${mib(need)}`, {
    hint: 'Free space on the disk of the volume mounted at /spool, or mount a larger one there.',
  });
}

async function checkNotRestarted(options: PostgresSourceOptions, tools: Tools, before: ServerFacts): Promise<void> {
  const after = await readServerFacts(await tools.control());
  if (after.startedAt !== before.startedAt || after.systemIdentifier !== before.systemIdentifier) {
    throw restarted(options.planned.containerName);
  }
}
