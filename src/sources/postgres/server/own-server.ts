import { isIPv4 } from 'node:net';
import { LifeboatError } from '../../../base/errors.ts';
import type { Engine } from '../../../docker/engine.ts';
import { sharesNetwork } from '../../../docker/network.ts';
import type { PostgresSource } from '../../../plan/model.ts';
import { type ContainerServer, findServer, type Postmaster } from './postmaster.ts';
import { restarted } from './restarted.ts';
import type { Session } from './session.ts';
import { sqlState } from './sql-state.ts';

/** The identity that a server reports in a session. */
export interface ReachedServer {
  systemIdentifier: string;
  /** seconds since the epoch */
  startedAt: number;
  /** null over a Unix socket */
  port: number | null;
  /** contents of its `postmaster.pid`; only a superuser may read them */
  postmaster?: string;
  /** path of its data directory; only a superuser may read it */
  dataDirectory?: string;
}

/** The longest time, in seconds, from the start of the process until it takes the start time that it reports. */
const START_LIMIT_S = 600;
/** By how many seconds the clock may be set back in between. */
const CLOCK_STEP_S = 5;

const RECORD_GONE = 'the postmaster.pid of that server is gone';

/** The connection whose server has to be proved. */
interface ProofContext {
  engine: Engine;
  source: PostgresSource;
  /** the server as recorded in the container's file system */
  found: ContainerServer;
  /** the host that sessions connect to */
  host: string;
  /** the same address, formatted for messages */
  address: string;
}

/**
 * Proves that sessions reach the server in the container. It compares the start, the port and the shared memory with
 * `postmaster.pid` in the container, and the system identifier with `pg_control`. Any contradiction is an error.
 *
 * Less is required on a loopback address in a network namespace that no other container shares: a record that is older
 * than the container is not compared, and no record is needed if the engine cannot read the data directory (a tmpfs, or
 * a refusal). Elsewhere, a process that only forwards connections would pass.
 */
export class ServerProof {
  private readonly context: ProofContext;
  private others: Promise<boolean> | undefined;
  private proved: ReachedServer | undefined;

  constructor(context: ProofContext) {
    this.context = context;
  }

  /** True once a session has proved the server. */
  get isProved(): boolean {
    return this.proved !== undefined;
  }

  /**
   * Returns whether another server may respond at the address. A password must then not be sent in a form that the
   * other server could use. Call this method before opening a session.
   *
   * @throws PG_WRONG_SERVER if no proof is possible; ENGINE_*
   */
  async mayBeAnother(signal: AbortSignal): Promise<boolean> {
    const { found } = this.context;
    const others = await this.maySendElsewhere(signal);
    if (!others || this.isProved) return others;
    if (!found.postmaster) throw await this.wrongServer(found, undefined, signal);
    return others;
  }

  /**
   * Proves the server of the first session, and compares the server of each later session with it.
   *
   * @throws PG_WRONG_SERVER, PG_RESTARTED, ENGINE_*, and errors of the session
   */
  async check(session: Session, signal: AbortSignal): Promise<void> {
    const proved = this.proved;
    const { source, found } = this.context;
    if (!proved) {
      const { superuser, ...seen } = await ask(session);
      const reached = { ...seen, ...(superuser ? await askAsSuperuser(session) : {}) };
      await this.prove(reached, signal);
      this.proved = reached;
      return;
    }
    const now = await ask(session);
    if (now.systemIdentifier !== proved.systemIdentifier || now.port !== proved.port)
      throw await this.wrongServer(found, 'it differs from the server of the earlier sessions', signal);
    if (now.startedAt !== proved.startedAt) throw restarted(source.containerName);
  }

  private async prove(reached: ReachedServer, signal: AbortSignal): Promise<void> {
    const { engine, source, found } = this.context;
    if (found.postmaster && difference(found, reached) === undefined) return;
    // The server may have restarted after `found` was read.
    const again = await findServer(engine, withReportedDirectory(source, reached), { signal });
    const why = difference(again, reached) ?? (found.postmaster && !again.postmaster ? RECORD_GONE : undefined);
    if (again.postmaster && why === undefined) return;
    if (!(await this.maySendElsewhere(signal)) && (await this.needsNoRecord(again, reached, signal))) return;
    throw await this.wrongServer(again, why, signal);
  }

  /** Returns true if the container has no current record that contradicts a server on its own loopback address. */
  private async needsNoRecord(again: ContainerServer, reached: ReachedServer, signal: AbortSignal): Promise<boolean> {
    const { postmaster, systemIdentifier } = again;
    if (systemIdentifier !== undefined && systemIdentifier !== reached.systemIdentifier) return false;
    if (postmaster) return systemIdentifier !== undefined && (await this.isStale(postmaster, signal));
    if (this.context.found.postmaster) return false;
    return again.unread === true || (await this.onTmpfs(signal)) !== undefined;
  }

  /** Returns the data directory if it is on a tmpfs, which the engine cannot read (`GET /containers/<id>/archive`). */
  private async onTmpfs(signal: AbortSignal): Promise<string | undefined> {
    const { engine, source } = this.context;
    const { mounts, tmpfs } = await engine.inspectContainer(source.containerId, { signal });
    const bases = [...mounts.filter(({ type }) => type === 'tmpfs').map(({ destination }) => destination), ...tmpfs];
    // The first directory is the most certain one. The image's usual directory does not matter if a setting names
    // another.
    const named = source.dataDirectories[0];
    return named !== undefined && isBelow(named, [...bases, '/dev/shm']) ? named : undefined;
  }

  /**
   * Returns whether the address may lead to another container. Only a loopback address in an unshared network namespace
   * cannot: a volume may hold the sockets of two servers.
   */
  private maySendElsewhere(signal: AbortSignal): Promise<boolean> {
    const { engine, source, host } = this.context;
    if (!isLoopback(host)) return Promise.resolve(true);
    this.others ??= sharesNetwork(engine, source.containerId, { signal }).catch((error: unknown) => {
      this.others = undefined;
      throw error;
    });
    return this.others;
  }

  /** Returns true for a record that is older than the start of the container: the server that wrote it has ended. */
  private async isStale({ startedAt }: Postmaster, signal: AbortSignal): Promise<boolean> {
    const { engine, source } = this.context;
    const container = await engine.inspectContainer(source.containerId, { signal });
    return startedAt < Date.parse(container.startedAt) / 1000 - CLOCK_STEP_S;
  }

  /** @param why how the server differs; undefined if nothing proves that it is the container's own */
  private async wrongServer(found: ContainerServer, why: string | undefined, signal: AbortSignal): Promise<Error> {
    const { source, address, host } = this.context;
    const { containerName } = source;
    const message =
      why === undefined
        ? `nothing proves that the server at ${address} belongs to database container ${containerName}`
        : `the server at ${address} does not belong to database container ${containerName}: ${why}`;
    const shared = host.startsWith('/')
      ? `Two containers may share the socket directory ${host}`
      : (await this.maySendElsewhere(signal))
        ? 'Another container may share the network of this one (network_mode)'
        : 'A process that only forwards connections (a pooler) is not a server: label the container of the server itself';
    const missing = why === undefined ? await this.whatIsMissing(found, signal) : undefined;
    const advice =
      missing ??
      `Check that the server of ${containerName} is running. Nothing was read from the other server, or changed.`;
    return new LifeboatError('PG_WRONG_SERVER', message, { hint: `${shared}. ${advice}` });
  }

  private async whatIsMissing({ refused, systemIdentifier }: ContainerServer, signal: AbortSignal): Promise<string> {
    const { containerName, dataDirectories } = this.context.source;
    if (refused) return 'Allow GET /containers/<id>/archive in the proxy of the Docker socket.';
    const onTmpfs = await this.onTmpfs(signal);
    if (onTmpfs !== undefined)
      return `The data directory ${onTmpfs} is on a tmpfs, which the Docker engine cannot read: move it to a volume, or give the container a network of its own.`;
    if (systemIdentifier !== undefined)
      return `The data of ${containerName} has no postmaster.pid, so its server is not running.`;
    return `No postmaster.pid was found in ${dataDirectories.join(', ')}: name the data directory in PGDATA, or with -D in the command.`;
  }
}

function isBelow(directory: string, bases: readonly string[]): boolean {
  return bases.some((base) => directory === base || directory.startsWith(`${base.replace(/\/+$/, '')}/`));
}

/** Returns true for an address within the network namespace (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3; RFC 6761, 6.3). */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

async function ask(session: Session): Promise<ReachedServer & { superuser: boolean }> {
  const row = await session.one<{ system: string; started: string; port: string | null; superuser: boolean }>(
    `SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system,
            (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text AS started,
            inet_server_port()::text AS port, current_setting('is_superuser') = 'on' AS superuser`,
  );
  return {
    systemIdentifier: row.system,
    // A whole number of microseconds: before version 14 it is a float, whose text depends on the settings of each
    // database.
    startedAt: Number(row.started) / 1_000_000,
    port: row.port === null ? null : Number(row.port),
    superuser: row.superuser,
  };
}

/**
 * Reads what only a superuser may see. Some hosting providers restrict superusers; the other values are proof enough.
 */
async function askAsSuperuser(session: Session): Promise<Pick<ReachedServer, 'postmaster' | 'dataDirectory'>> {
  const seen: Pick<ReachedServer, 'postmaster' | 'dataDirectory'> = {};
  const questions = {
    postmaster: "SELECT pg_read_file('postmaster.pid') AS answer",
    dataDirectory: "SELECT current_setting('data_directory') AS answer",
  } as const;
  for (const name of ['postmaster', 'dataDirectory'] as const) {
    try {
      seen[name] = (await session.one<{ answer: string }>(questions[name])).answer;
    } catch (error) {
      if (sqlState(error) === undefined) throw error;
    }
  }
  return seen;
}

/**
 * Returns the source with the data directory that the server reports, because an image may set it in a script. Files
 * are read from the container, so another server gains nothing by reporting a directory.
 */
function withReportedDirectory(source: PostgresSource, { dataDirectory }: ReachedServer): PostgresSource {
  if (dataDirectory === undefined || !dataDirectory.startsWith('/')) return source;
  return { ...source, dataDirectories: [dataDirectory, ...source.dataDirectories] };
}

/** Describes how the server of a session differs from the server in the container; undefined if they are the same. */
export function difference(found: ContainerServer, reached: ReachedServer): string | undefined {
  const own = found.postmaster;
  if (found.systemIdentifier !== undefined && found.systemIdentifier !== reached.systemIdentifier)
    return `its system identifier is ${reached.systemIdentifier}, the container's data has ${found.systemIdentifier}`;
  if (!own) return undefined;
  if (reached.port !== null && reached.port !== own.port)
    return `it listens on port ${reached.port}, the container's server on ${own.port}`;
  if (reached.postmaster !== undefined)
    return isSameRecord(reached.postmaster, own) ? undefined : 'its postmaster.pid is not the one in the container';
  const late = reached.startedAt - own.startedAt;
  if (late >= -CLOCK_STEP_S && late <= START_LIMIT_S) return undefined;
  return `it was started at ${time(reached.startedAt)}, the container's server at ${time(own.startedAt)}`;
}

/** Compares records without the last line, which changes while a server starts and is missing from `lines`. */
function isSameRecord(text: string, { lines }: Postmaster): boolean {
  const reported = text.split('\n').map((line) => line.trim().replaceAll(/\s+/g, ' '));
  return lines.every((line, i) => line === (reported[i] ?? ''));
}

function time(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
