import type { Log } from '../../../base/log.ts';
import type { Engine } from '../../../docker/engine.ts';
import { startHelper } from '../../../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../../../docker/helper-kinds.ts';
import type { Mount, PostgresSource } from '../../../plan/model.ts';
import { addressOf } from './address.ts';
import type { Connection } from './commands.ts';
import { connectThrough } from './connect.ts';
import { resolveCredentials } from './credentials.ts';
import { asItIs, dataMounts, makeScratch, type SharedDirectory, sharedMounts } from './helper-mounts.ts';
import { HelperTools } from './helper-tools.ts';
import { findServer } from './postmaster.ts';
import { explainCrashLoop } from './restarted.ts';
import type { Session } from './session.ts';
import { withWatchdog } from './watchdog.ts';

/** What the sources need to know of the agent that runs them. */
export interface AgentContext {
  engine: Engine;
  /** of the agent's own container */
  id: string;
  project: string;
  /** the mount at /spool, to share it with a helper */
  spoolMount: Mount;
  /** how long a server may answer nothing, and a dump make no progress; milliseconds */
  stallTimeoutMs: number;
}

/**
 * Postgres' own programs and SQL sessions against one database container, through a helper of its image. Nobody waits for ever:
 * a query or a program fails with PG_STALLED once the server has answered nothing for the stall timeout.
 */
export interface Tools {
  /** name of the database container */
  readonly container: string;
  readonly connection: Connection;
  readonly log: Log;
  /** the database to connect to for what concerns the whole server: the one that was named, or the first other one that opens */
  readonly database: string;
  /** the database that the container's settings name */
  readonly named: string;
  session(database: string, signal: AbortSignal): Promise<Session>;
  /**
   * A session that outlives the run's abort signal, for looking and for cleaning up; kept open between calls. With
   * `outside` it is on another database than those, which can then be dropped or renamed.
   */
  control(...outside: string[]): Promise<Session>;
  /** Runs a program in the helper; resolves to its stdout. EXEC_FAILED with the end of stderr when it exits non-zero. */
  run(argv: readonly string[], signal: AbortSignal): Promise<string>;
  /**
   * Removes what is in the directory that the helper shares. The helper does that: it may be a stranger's, and exchange a directory for a link
   * while it is removed. EXEC_FAILED, or INTERRUPTED after a minute.
   */
  remove(path: string): Promise<void>;
  /** The state of this run's sessions as text: it changes while the server works for us. */
  activity(): Promise<string>;
  /** Ends sessions and the helper. Never rejects. Takes seconds, or minutes where the engine cannot end the helper. */
  close(): Promise<void>;
}

export interface OpenToolsOptions {
  agent: AgentContext;
  source: PostgresSource;
  /** of the run, see {@link applicationName} */
  application: string;
  runId: string;
  /** called with the helper's name before it is made */
  recordHelper(name: string): void;
  /** what the helper shares with the agent; absent: nothing */
  share?: SharedDirectory;
  /** the helper sees the server's data, read-only: to tell the space left there */
  withData?: boolean;
  log: Log;
  signal: AbortSignal;
}

/**
 * Finds the container's server, resolves the credentials, and starts a helper from the database's own image in the database's network
 * namespace. The first session proves that the server is the container's own: see own-server.ts.
 *
 * Errors: PG_UNREACHABLE, PG_AUTH, PG_STALLED, HELPER_FAILED, ENGINE_*; of the first use also PG_WRONG_SERVER.
 */
export async function openTools(options: OpenToolsOptions): Promise<Tools> {
  const { agent, source } = options;
  return open(options).catch(async (error: unknown) => {
    throw await explainCrashLoop(error, { engine: agent.engine, id: source.containerId });
  });
}

async function open(options: OpenToolsOptions): Promise<Tools> {
  const { agent, source, log, signal } = options;
  const { engine } = agent;
  const look = { timeoutMs: agent.stallTimeoutMs, pulses: [], signal, what: `the look at ${source.containerName}` };
  const { found, address, credentials } = await withWatchdog(look, async (watched) => {
    const [found, credentials] = await Promise.all([
      findServer(engine, source, { signal: watched }),
      resolveCredentials(engine, source, watched),
    ]);
    return { found, address: addressOf(source, found), credentials };
  });
  if (options.share) await makeScratch(options.share);
  const helper = await startHelper(
    { engine, recordBefore: async (name) => options.recordHelper(name), log, signal },
    {
      ...kindSpec(HELPER_KINDS.postgres, {
        run: options.share ? sharedMounts(agent.spoolMount, options.share) : [],
        socket: address.socketMount ? [asItIs(address.socketMount)] : [],
        data: options.withData ? dataMounts(source, address.socketMount, found.postmaster?.dataDirectory) : [],
      }),
      project: agent.project,
      agent: agent.id,
      runId: options.runId,
      image: source.imageId,
      networkMode: `container:${source.containerId}`,
    },
  );
  try {
    const { application } = options;
    const how = { engine, helper, source, found, address, credentials, application, signal };
    return new HelperTools(helper, options, await connectThrough(how), credentials);
  } catch (error) {
    await helper.remove();
    throw error;
  }
}

/** Works in a session on a database, and closes it whatever happens. */
export async function withSession(
  { tools, signal }: { tools: Tools; signal: AbortSignal },
  database: string,
  work: (session: Session) => Promise<void>,
): Promise<void> {
  const session = await tools.session(database, signal);
  try {
    await work(session);
  } finally {
    await session.close();
  }
}
