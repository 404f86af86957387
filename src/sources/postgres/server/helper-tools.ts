import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { LifeboatError } from '../../../base/errors.ts';
import { readFifo } from '../../../base/fifo.ts';
import type { Log } from '../../../base/log.ts';
import { type ExecOptions, execStream, execText } from '../../../docker/exec.ts';
import { HEARTBEAT_S } from '../../../docker/heartbeat.ts';
import { type Helper, startHelper } from '../../../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../../../docker/helper-kinds.ts';
import { readActivity } from './activity.ts';
import { addressOf } from './address.ts';
import { answering, type ProbedServer, whileAnswering } from './answering.ts';
import { type Connection, toolEnvironment } from './commands.ts';
import { type Connector, connectThrough } from './connect.ts';
import { type Credentials, resolveCredentials } from './credentials.ts';
import { endSessions, within } from './end-sessions.ts';
import {
  dataMounts,
  makeScratch,
  type SharedDirectory,
  sameMount,
  sharedMounts,
  sharesMount,
} from './helper-mounts.ts';
import { withoutContent } from './messages.ts';
import { findServer } from './postmaster.ts';
import { explainCrashLoop, refusePaused } from './restarted.ts';
import { isUnusable, type Session } from './session.ts';
import { sqlState } from './sql-state.ts';
import type { OpenToolsOptions, Tools } from './tools.ts';
import { withWatchdog } from './watchdog.ts';

/** The most time for the cleanup when the server does not respond. */
const CLOSE_LIMIT_MS = 5000;

const REMOVE_LIMIT_MS = 60_000;

/** The longest output of a program, bytes. A table of contents with 100,000 entries has about 15 MiB. */
const OUTPUT_LIMIT = 256 * 1024 * 1024;

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
      ...options.limits,
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

/** Creates a FIFO, says so, and runs a program that writes into it. */
const FIFO_SCRIPT = 'mkfifo -m 600 "$0" && echo && exec "$@" >"$0"';

/** Implements {@link Tools} with a helper that runs. */
class HelperTools implements Tools {
  readonly container: string;
  readonly connection: Connection;
  readonly log: Log;
  readonly named: string;
  private readonly helper: Helper;
  private readonly options: OpenToolsOptions;
  private readonly connector: Connector;
  private readonly closing = new AbortController();
  private readonly server: ProbedServer;
  private opened: string;
  private controlling: Promise<Session> | undefined;
  private probing: Promise<void> | undefined;
  private readingActivity: Promise<string> | undefined;

  constructor(helper: Helper, options: OpenToolsOptions, connector: Connector, { database }: Credentials) {
    const { agent, source, log } = options;
    this.helper = helper;
    this.options = options;
    this.connector = connector;
    this.container = source.containerName;
    this.connection = connector.connection;
    this.log = log;
    this.named = database;
    this.opened = database;
    this.server = { container: this.container, timeoutMs: agent.stallTimeoutMs, probe: () => this.probe() };
  }

  get database(): string {
    return this.opened;
  }

  async session(name: string, signal: AbortSignal): Promise<Session> {
    const { connector, options } = this;
    const stalled = new AbortController();
    const session = await connector.open(name, options.application, AbortSignal.any([signal, stalled.signal]));
    return answering(session, this.server, (reason) => stalled.abort(reason));
  }

  async control(...outside: string[]): Promise<Session> {
    const present = await this.controlling;
    if (present && !outside.includes(present.database)) return present;
    await present?.close();
    const names = [this.named, 'postgres', 'template1'].filter((name) => !outside.includes(name));
    const control = firstThatOpens(names, (name) => this.session(name, this.closing.signal));
    this.controlling = control;
    if (outside.length === 0) control.then(({ database }) => (this.opened = database)).catch(() => undefined);
    // Waiting callers get the failure; the next call tries again.
    control.catch(() => {
      this.controlling = undefined;
    });
    return control;
  }

  async run(argv: readonly string[], signal: AbortSignal, input: Pick<ExecOptions, 'stdin'> = {}): Promise<string> {
    const { connector, helper, options } = this;
    // A program cannot prove the server, so a session does that first.
    if (!connector.isProved()) await this.control();
    const { stdout } = await whileAnswering(this.server, signal, (watched) =>
      execText(options.agent.engine, helper.id, {
        argv,
        ...toolEnvironment(connector.start.options),
        limit: OUTPUT_LIMIT,
        heartbeat: HEARTBEAT_S,
        redact: withoutContent,
        signal: watched,
        ...input,
      }),
    );
    return stdout;
  }

  sharesMount(file: string, directory: string, signal: AbortSignal): Promise<boolean> {
    const { agent, source } = this.options;
    return sharesMount({ engine: agent.engine, source }, file, directory, signal);
  }

  async stream<T>(argv: readonly string[], signal: AbortSignal, read: (output: Readable) => Promise<T>): Promise<T> {
    const { connector, helper, options } = this;
    if (!connector.isProved()) await this.control();
    const { directory } = options.share as SharedDirectory;
    const fifo = path.join(directory, `output-${randomUUID()}`);
    return whileAnswering(this.server, signal, async (watched) => {
      const command = await execStream(options.agent.engine, helper.id, {
        argv: ['sh', '-c', FIFO_SCRIPT, fifo, ...argv],
        ...toolEnvironment(connector.start.options),
        heartbeat: HEARTBEAT_S,
        redact: withoutContent,
        signal: watched,
      });
      return readFifo(command, fifo, read);
    });
  }

  async remove(path: string): Promise<void> {
    const signal = AbortSignal.timeout(REMOVE_LIMIT_MS);
    await execText(this.options.agent.engine, this.helper.id, { argv: ['rm', '-rf', '--', path], signal });
  }

  activity(): Promise<string> {
    // Several dumps request this at a time, but a session runs one query at a time.
    this.readingActivity ??= this.queryActivity().finally(() => {
      this.readingActivity = undefined;
    });
    return this.readingActivity;
  }

  async close(): Promise<void> {
    await within(CLOSE_LIMIT_MS, endSessions(this.controlling, this.options.application));
    this.closing.abort(new LifeboatError('INTERRUPTED', 'the helper is being removed'));
    await this.helper.remove();
  }

  private async queryActivity(): Promise<string> {
    return readActivity(await this.control(), this.options.application);
  }

  private probe(): Promise<void> {
    // The probe has another name, so that it does not count as activity.
    const application = `${this.options.application} asks`;
    this.probing ??= answered(this.connector.open(this.opened, application, this.closing.signal)).finally(() => {
      this.probing = undefined;
    });
    return this.probing;
  }
}

/** Waits for a response of the server. A refusal is a response too. */
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
