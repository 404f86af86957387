import type { Engine } from '../../docker/engine.ts';
import { execText } from '../../docker/exec.ts';
import { HEARTBEAT_S } from '../../docker/heartbeat.ts';
import { type Helper, startHelper } from '../../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../../docker/helper-kinds.ts';
import { execSocket, tunnelArgv } from '../../docker/tunnel.ts';
import { LifeboatError } from '../../errors.ts';
import type { Log } from '../../log.ts';
import type { Mount, PostgresSource } from '../../plan/model.ts';
import { readActivity } from './activity.ts';
import { type AskedServer, answering, whileAnswering } from './answering.ts';
import { type Connection, toolEnvironment } from './commands.ts';
import { resolveCredentials, writePassfile } from './credentials.ts';
import { EventTriggers } from './event-triggers.ts';
import { dataMounts, secretMounts } from './helper-mounts.ts';
import { withoutContent } from './messages.ts';
import { isUnusable, openSession, type Session, sqlState } from './session.ts';

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
  /** the database to connect to for what concerns the whole server */
  readonly database: string;
  session(database: string, signal: AbortSignal): Promise<Session>;
  /**
   * A session that outlives the run's abort signal, for looking and for cleaning up; kept open between calls. With
   * `outside` it is on another database than those, which can then be dropped or renamed.
   */
  control(...outside: string[]): Promise<Session>;
  /** Runs a program in the helper; resolves to its stdout. EXEC_FAILED with the end of stderr when it exits non-zero. */
  run(argv: readonly string[], signal: AbortSignal): Promise<string>;
  /** The state of this run's sessions as text: it changes while the server works for us. */
  activity(): Promise<string>;
  /** Ends sessions and the helper. Never rejects, and takes seconds at most. */
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
  /** the helper sees the server's data, read-only: to tell the space left there */
  withData?: boolean;
  log: Log;
  signal: AbortSignal;
}

/** How long cleaning up may take when the server does not answer. */
const CLOSE_LIMIT_MS = 5000;

/** A table of contents of 100,000 entries has some 15 MiB. */
const OUTPUT_LIMIT = 256 * 1024 * 1024;

/**
 * Starts a helper from the database's own image in the database's network namespace and resolves the credentials: the
 * settings of the container, or the files that its *_FILE settings name, read through the same mounts.
 */
export async function openTools(options: OpenToolsOptions): Promise<Tools> {
  const { agent, source, log, signal } = options;
  const helper = await startHelper(
    { engine: agent.engine, recordBefore: async (name) => options.recordHelper(name), log, signal },
    {
      ...kindSpec(HELPER_KINDS.postgres, {
        spool: [{ mount: agent.spoolMount, target: '/spool' }],
        secrets: secretMounts(source),
        data: options.withData ? dataMounts(source) : [],
      }),
      project: agent.project,
      agent: agent.id,
      runId: options.runId,
      image: source.imageId,
      networkMode: `container:${source.containerId}`,
    },
  );
  try {
    return await toolsOver(helper, options);
  } catch (error) {
    await helper.remove();
    throw error;
  }
}

async function toolsOver(helper: Helper, options: OpenToolsOptions): Promise<Tools> {
  const { agent, source, log } = options;
  const { engine, stallTimeoutMs } = agent;
  const { user, password, database } = await resolveCredentials(engine, helper, source, options.signal);
  const connection: Connection = { user, port: source.port, application: options.application };
  if (password !== undefined) await writePassfile(engine, helper, source, connection, password, options.signal);

  const closing = new AbortController();
  const triggers = new EventTriggers();
  let control: Promise<Session> | undefined;
  const dial = async (signal: AbortSignal) => execSocket(engine, helper.id, tunnelArgv(connection.port), { signal });
  const open = (name: string, application: string, signal: AbortSignal) =>
    triggers.open((start) =>
      openSession({
        dial,
        user,
        ...(password === undefined ? {} : { password }),
        database: name,
        application,
        ...(start === undefined ? {} : { start }),
        container: source.containerName,
        signal,
      }),
    );
  let asking: Promise<void> | undefined;
  const server: AskedServer = {
    container: source.containerName,
    timeoutMs: stallTimeoutMs,
    ask() {
      // Named otherwise, or the look itself would count as activity.
      asking ??= answered(open(database, `${options.application} asks`, closing.signal)).finally(() => {
        asking = undefined;
      });
      return asking;
    },
  };
  const session = async (name: string, signal: AbortSignal) => {
    const stalled = new AbortController();
    const opened = await open(name, options.application, AbortSignal.any([signal, stalled.signal]));
    return answering(opened, server, (reason) => stalled.abort(reason));
  };
  const openControl = async (...outside: string[]): Promise<Session> => {
    const present = await control;
    if (present && !outside.includes(present.database)) return present;
    await present?.close();
    const names = [database, 'postgres', 'template1'].filter((name) => !outside.includes(name));
    control = firstThatOpens(names, (name) => session(name, closing.signal));
    // Whoever waits for it hears of a failure; the next call tries anew.
    control.catch(() => {
      control = undefined;
    });
    return control;
  };
  let activity: Promise<string> | undefined;
  const lookAtActivity = async () => readActivity(await openControl(), options.application);
  return {
    container: source.containerName,
    connection,
    log,
    database,
    session,
    control: openControl,
    async run(argv, signal) {
      const { stdout } = await whileAnswering(server, signal, (watched) =>
        execText(engine, helper.id, {
          argv,
          env: toolEnvironment(triggers.options),
          limit: OUTPUT_LIMIT,
          heartbeat: HEARTBEAT_S,
          tellable: withoutContent,
          signal: watched,
        }),
      );
      return stdout;
    },
    activity() {
      // Several dumps are watched at a time, and a session takes one query at a time.
      activity ??= lookAtActivity().finally(() => {
        activity = undefined;
      });
      return activity;
    },
    async close() {
      await within(CLOSE_LIMIT_MS, endSessions(control, options.application));
      closing.abort(new LifeboatError('INTERRUPTED', 'the helper is being removed'));
      await helper.remove();
    },
  };
}

/** A refusal is an answer too. */
async function answered(opening: Promise<Session>): Promise<void> {
  try {
    const session = await opening;
    await session.close();
  } catch (error) {
    if (sqlState(error) === undefined) throw error;
  }
}

async function firstThatOpens(names: string[], open: (name: string) => Promise<Session>): Promise<Session> {
  let last: unknown;
  for (const name of new Set(names)) {
    try {
      return await open(name);
    } catch (error) {
      if (!isUnusable(error)) throw error;
      last = error;
    }
  }
  throw last;
}

/** Cancels through SQL what still runs under our name, so that nothing is left to find out that its client is gone. */
async function endSessions(control: Promise<Session> | undefined, application: string): Promise<void> {
  const session = await control?.catch(() => undefined);
  if (!session) return;
  await session
    .all(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()',
      [application],
    )
    .catch(() => undefined);
  await session.close();
}

async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([work, new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}
