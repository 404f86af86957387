import type { Log } from '../../../base/log.ts';
import type { Engine } from '../../../docker/engine.ts';
import { startHelper } from '../../../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../../../docker/helper-kinds.ts';
import type { Mount, PostgresSource } from '../../../plan/model.ts';
import { addressOf } from './address.ts';
import type { Connection } from './commands.ts';
import { connectThrough } from './connect.ts';
import { resolveCredentials } from './credentials.ts';
import { dataMounts, makeScratch, type SharedDirectory, sameMount, sharedMounts } from './helper-mounts.ts';
import { HelperTools } from './helper-tools.ts';
import { findServer } from './postmaster.ts';
import { explainCrashLoop, refusePaused } from './restarted.ts';
import type { Session } from './session.ts';
import { withWatchdog } from './watchdog.ts';

/** The properties of the agent that sources need. */
export interface AgentContext {
  engine: Engine;
  /** id of the agent's own container */
  id: string;
  project: string;
  /** the mount at /spool, which helpers share */
  spoolMount: Mount;
  /** how long a server may not respond, or a dump make no progress, milliseconds */
  stallTimeoutMs: number;
}

/**
 * Runs Postgres programs and SQL sessions against one database container, through a helper of its image. No wait is
 * unlimited: a query or a program fails with PG_STALLED when the server has not responded for the stall timeout.
 */
export interface Tools {
  /** name of the database container */
  readonly container: string;
  readonly connection: Connection;
  readonly log: Log;
  /** the database for queries about the whole server: the named one, else the first that accepts a connection */
  readonly database: string;
  /** the database that the container's settings name */
  readonly named: string;
  session(database: string, signal: AbortSignal): Promise<Session>;
  /**
   * Returns a session that the abort signal of the run does not end, for inspection and cleanup. It stays open between
   * calls. It uses none of the databases in `outside`, which can then be dropped or renamed.
   */
  control(...outside: string[]): Promise<Session>;
  /**
   * Runs a program in the helper, and returns its stdout.
   *
   * @throws EXEC_FAILED with the end of stderr if the program fails
   */
  run(argv: readonly string[], signal: AbortSignal): Promise<string>;
  /**
   * Removes a path in the shared directory. The helper does this itself: it is untrusted, and could replace a directory
   * with a link while the agent removes it.
   *
   * @throws EXEC_FAILED, or INTERRUPTED after a minute
   */
  remove(path: string): Promise<void>;
  /** Returns the state of this run's sessions as a text that changes while the server works for them. */
  activity(): Promise<string>;
  /** Ends sessions and the helper. Never rejects. Takes seconds, or minutes where the engine cannot end the helper. */
  close(): Promise<void>;
}

export interface OpenToolsOptions {
  agent: AgentContext;
  source: PostgresSource;
  /** name of the run's sessions, see {@link applicationName} */
  application: string;
  runId: string;
  /** called with the helper's name before the helper is created */
  recordHelper(name: string): void;
  /** directory that the helper shares with the agent, if any */
  share?: SharedDirectory;
  /** the helper mounts the server's data read-only, to measure its free space */
  withData?: boolean;
  log: Log;
  signal: AbortSignal;
}

/**
 * Finds the container's server, reads the credentials, and starts a helper from the image of the database in its
 * network namespace. The first session proves that the server belongs to the container: see own-server.ts.
 *
 * @throws PG_UNREACHABLE, PG_AUTH, PG_STALLED, HELPER_FAILED, ENGINE_*; the first session may also throw
 * PG_WRONG_SERVER
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
  await refusePaused(engine, source.containerId);
  const look = {
    timeoutMs: agent.stallTimeoutMs,
    pulses: [],
    signal,
    what: `the inspection of ${source.containerName}`,
  };
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
        socket: address.socketMount ? [sameMount(address.socketMount)] : [],
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

/** Runs work in a session on a database, and closes the session afterwards. */
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
