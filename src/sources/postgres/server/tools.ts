import type { Readable } from 'node:stream';
import type { Log } from '../../../base/log.ts';
import type { Engine } from '../../../docker/engine.ts';
import type { ExecOptions } from '../../../docker/exec.ts';
import type { HelperLimits } from '../../../docker/helper.ts';
import type { Mount, PostgresSource } from '../../../plan/model.ts';
import type { Connection } from './commands.ts';
import type { SharedDirectory } from './helper-mounts.ts';
import type { Session } from './session.ts';

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
   * @param options `stdin`: with `pipe`, the program has an input, which ends with the agent's connection
   * @throws EXEC_FAILED with the end of stderr if the program fails
   */
  run(argv: readonly string[], signal: AbortSignal, options?: Pick<ExecOptions, 'stdin'>): Promise<string>;
  /**
   * Runs a program in the helper, and passes its stdout to `read`. Resolves to the result of `read` only if the program
   * succeeds. The output goes through a FIFO in the shared directory, because each byte of a command's output passes
   * through three processes of the Docker engine. Needs a shared directory with write access.
   *
   * @throws EXEC_FAILED with the end of stderr if the program fails; what `read` throws
   */
  stream<T>(argv: readonly string[], signal: AbortSignal, read: (output: Readable) => Promise<T>): Promise<T>;
  /**
   * Removes a path in the shared directory. The helper does this itself: it is untrusted, and could replace a directory
   * with a link while the agent removes it.
   *
   * @throws EXEC_FAILED, or INTERRUPTED after a minute
   */
  remove(path: string): Promise<void>;
  /**
   * Returns whether a path of the server's container is in the same mount as a directory. Follows links at its end.
   *
   * @throws ENGINE_*
   */
  sharesMount(file: string, directory: string, signal: AbortSignal): Promise<boolean>;
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
  /** what the helper may use; absent: no limits */
  limits?: HelperLimits;
  log: Log;
  signal: AbortSignal;
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
