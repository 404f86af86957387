import { LifeboatError } from '../../../base/errors.ts';
import type { Log } from '../../../base/log.ts';
import { execText } from '../../../docker/exec.ts';
import { HEARTBEAT_S } from '../../../docker/heartbeat.ts';
import type { Helper } from '../../../docker/helper.ts';
import { readActivity } from './activity.ts';
import { type AskedServer, answering, whileAnswering } from './answering.ts';
import { type Connection, toolEnvironment } from './commands.ts';
import type { Connector } from './connect.ts';
import type { Credentials } from './credentials.ts';
import { endSessions, within } from './end-sessions.ts';
import { withoutContent } from './messages.ts';
import { isUnusable, type Session } from './session.ts';
import { sqlState } from './sql-state.ts';
import type { OpenToolsOptions, Tools } from './tools.ts';

/** How long cleaning up may take when the server does not answer. */
const CLOSE_LIMIT_MS = 5000;

const REMOVE_LIMIT_MS = 60_000;

/** A table of contents of 100,000 entries has some 15 MiB. */
const OUTPUT_LIMIT = 256 * 1024 * 1024;

export class HelperTools implements Tools {
  readonly container: string;
  readonly connection: Connection;
  readonly log: Log;
  readonly named: string;
  private readonly helper: Helper;
  private readonly options: OpenToolsOptions;
  private readonly connector: Connector;
  private readonly closing = new AbortController();
  private readonly server: AskedServer;
  private opened: string;
  private controlling: Promise<Session> | undefined;
  private asking: Promise<void> | undefined;
  private looking: Promise<string> | undefined;

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
    this.server = { container: this.container, timeoutMs: agent.stallTimeoutMs, ask: () => this.ask() };
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
    // Whoever waits for it gets the failure; the next call tries again.
    control.catch(() => {
      this.controlling = undefined;
    });
    return control;
  }

  async run(argv: readonly string[], signal: AbortSignal): Promise<string> {
    const { connector, helper, options } = this;
    // A program proves nothing: no program before a session has.
    if (!connector.isProved()) await this.control();
    const { stdout } = await whileAnswering(this.server, signal, (watched) =>
      execText(options.agent.engine, helper.id, {
        argv,
        env: toolEnvironment(connector.start.options),
        limit: OUTPUT_LIMIT,
        heartbeat: HEARTBEAT_S,
        redact: withoutContent,
        signal: watched,
      }),
    );
    return stdout;
  }

  async remove(path: string): Promise<void> {
    const signal = AbortSignal.timeout(REMOVE_LIMIT_MS);
    await execText(this.options.agent.engine, this.helper.id, { argv: ['rm', '-rf', '--', path], signal });
  }

  activity(): Promise<string> {
    // Several dumps are watched at a time, and a session takes one query at a time.
    this.looking ??= this.lookAtActivity().finally(() => {
      this.looking = undefined;
    });
    return this.looking;
  }

  async close(): Promise<void> {
    await within(CLOSE_LIMIT_MS, endSessions(this.controlling, this.options.application));
    this.closing.abort(new LifeboatError('INTERRUPTED', 'the helper is being removed'));
    await this.helper.remove();
  }

  private async lookAtActivity(): Promise<string> {
    return readActivity(await this.control(), this.options.application);
  }

  private ask(): Promise<void> {
    // Under another name: the look itself must not count as activity.
    const application = `${this.options.application} asks`;
    this.asking ??= answered(this.connector.open(this.opened, application, this.closing.signal)).finally(() => {
      this.asking = undefined;
    });
    return this.asking;
  }
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
