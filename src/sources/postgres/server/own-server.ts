import { isIPv4 } from 'node:net';
import { LifeboatError } from '../../../base/errors.ts';
import type { Engine } from '../../../docker/engine.ts';
import { sharesNetwork } from '../../../docker/network.ts';
import type { PostgresSource } from '../../../plan/model.ts';
import { type ContainerServer, findServer, type Postmaster } from './postmaster.ts';
import { restarted } from './restarted.ts';
import type { Session } from './session.ts';
import { sqlState } from './sql-state.ts';

/** What a server that was reached says of itself. */
export interface ReachedServer {
  systemIdentifier: string;
  /** seconds since the epoch */
  startedAt: number;
  /** null over a Unix socket */
  port: number | null;
  /** its own record, which only a superuser may read */
  postmaster?: string;
}

/** From the start of the process until the time that it tells clients, seconds: it loads libraries and looks up names first. */
const START_LIMIT_S = 600;
/** By how much a clock may be set back meanwhile. */
const CLOCK_STEP_S = 5;

/** The way to a server that has to be proved. */
interface ProofContext {
  engine: Engine;
  source: PostgresSource;
  /** what the container's file system says of its server */
  found: ContainerServer;
  /** where the server is dialled, and the same in words */
  host: string;
  address: string;
}

/**
 * Proves that the server which sessions reach is the one in the container: by the start, port and shared memory that `postmaster.pid` in
 * the container records, and by the system identifier in its `pg_control`. A contradiction is final. Where there is no record of a
 * server that may run, a loopback address in a network namespace that no other container shares is proof as well.
 */
export class ServerProof {
  readonly #context: ProofContext;
  #others: Promise<boolean> | undefined;
  #proved: ReachedServer | undefined;

  constructor(context: ProofContext) {
    this.#context = context;
  }

  /** True once a session was proved. */
  get isProved(): boolean {
    return this.#proved !== undefined;
  }

  /**
   * To be asked before a session is dialled. Resolves to true where another server may answer: then a password must not be sent in a
   * form that the other could use.
   *
   * Errors: PG_WRONG_SERVER where nothing could prove the server; ENGINE_*.
   */
  async mayBeAnother(signal: AbortSignal): Promise<boolean> {
    const { found, source, address } = this.#context;
    const others = await this.#maySendElsewhere(signal);
    if (!others || this.isProved) return others;
    if (!found.postmaster) throw wrongServer(source, address, found.refused ?? false);
    return others;
  }

  /**
   * Proves the server of the first session, and compares that of each later one with it.
   *
   * Errors: PG_WRONG_SERVER, PG_RESTARTED; those of the session and ENGINE_*.
   */
  async check(session: Session, signal: AbortSignal): Promise<void> {
    const proved = this.#proved;
    const { source, address } = this.#context;
    if (!proved) {
      const { superuser, ...seen } = await ask(session);
      const reached = { ...seen, ...(superuser ? await askMore(session) : {}) };
      await this.#prove(reached, signal);
      this.#proved = reached;
      return;
    }
    const now = await ask(session);
    if (now.systemIdentifier !== proved.systemIdentifier || now.port !== proved.port)
      throw wrongServer(source, address, false, 'it is another one than that of the sessions before');
    if (now.startedAt !== proved.startedAt) throw restarted(source.containerName);
  }

  async #prove(reached: ReachedServer, signal: AbortSignal): Promise<void> {
    const { engine, source, address, found } = this.#context;
    if (found.postmaster && difference(found, reached) === undefined) return;
    // It may have been restarted since.
    const again = await findServer(engine, source, { signal });
    const why = again.postmaster ? difference(again, reached) : found.postmaster && 'the record of that one is gone';
    if (again.postmaster && why === undefined) return;
    const others = await this.#maySendElsewhere(signal);
    const stale = again.postmaster !== undefined && (await this.#isStale(again.postmaster, signal));
    // Nothing but the container's own server listens on the loopback of a namespace of its own.
    if (!others && (why === undefined || stale)) return;
    throw wrongServer(source, address, again.refused ?? false, why);
  }

  /** Any other address may lead out of the container, and a volume may hold the sockets of two servers. */
  #maySendElsewhere(signal: AbortSignal): Promise<boolean> {
    const { engine, source, host } = this.#context;
    if (!isLoopback(host)) return Promise.resolve(true);
    this.#others ??= sharesNetwork(engine, source.containerId, { signal }).catch((error: unknown) => {
      this.#others = undefined;
      throw error;
    });
    return this.#others;
  }

  /** True for a record that was written before the container was started: the server that wrote it has ended. */
  async #isStale({ startedAt }: Postmaster, signal: AbortSignal): Promise<boolean> {
    const { engine, source } = this.#context;
    const container = await engine.inspectContainer(source.containerId, { signal });
    return startedAt < Date.parse(container.startedAt) / 1000 - CLOCK_STEP_S;
  }
}

/** True for an address that stays in the network namespace (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3; RFC 6761, 6.3). */
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
    // As a whole number of microseconds: before 14 it is a float, whose text depends on the settings of each database.
    startedAt: Number(row.started) / 1_000_000,
    port: row.port === null ? null : Number(row.port),
    superuser: row.superuser,
  };
}

async function askMore(session: Session): Promise<Pick<ReachedServer, 'postmaster'>> {
  try {
    return await session.one<{ postmaster: string }>("SELECT pg_read_file('postmaster.pid') AS postmaster");
  } catch (error) {
    // Some hosts take rights away from superusers; the rest is proof enough.
    if (sqlState(error) === undefined) throw error;
    return {};
  }
}

/** In what the server that was reached is not the one in the container, in words; undefined if it is the same. */
export function difference(found: ContainerServer, reached: ReachedServer): string | undefined {
  const own = found.postmaster as Postmaster;
  if (found.systemIdentifier !== undefined && found.systemIdentifier !== reached.systemIdentifier)
    return `its system identifier is ${reached.systemIdentifier}, that of the container's data is ${found.systemIdentifier}`;
  if (reached.port !== null && reached.port !== own.port)
    return `it listens on port ${reached.port}, the container's server on ${own.port}`;
  if (reached.postmaster !== undefined)
    return isSameRecord(reached.postmaster, own) ? undefined : 'its postmaster.pid is not the one in the container';
  const late = reached.startedAt - own.startedAt;
  if (late >= -CLOCK_STEP_S && late <= START_LIMIT_S) return undefined;
  return `it was started at ${time(reached.startedAt)}, the container's server at ${time(own.startedAt)}`;
}

/** The last line of the record, which is left out of `lines`, changes while a server starts. */
function isSameRecord(text: string, { lines }: Postmaster): boolean {
  const theirs = text.split('\n').map((line) => line.trim().replaceAll(/\s+/g, ' '));
  return lines.every((line, i) => line === (theirs[i] ?? ''));
}

function time(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}

function wrongServer(source: PostgresSource, address: string, refused: boolean, why?: string): LifeboatError {
  const { containerName, dataDirectories } = source;
  const message =
    why === undefined
      ? `nothing proves that the server at ${address} is that of database container ${containerName}`
      : `the server at ${address} is not that of database container ${containerName}: ${why}`;
  const shared = 'Another container shares the network of this one (network_mode), so another server may answer.';
  const unread = refused
    ? 'Let GET /containers/<id>/archive through in the proxy of the Docker socket.'
    : `No postmaster.pid was found in ${dataDirectories.join(', ')}: name the data directory in PGDATA, or with -D in the command.`;
  const hint =
    why === undefined
      ? `${shared} ${unread}`
      : `Two servers share a network (network_mode): see that the server of ${containerName} is running. Nothing was read from the other, or changed.`;
  return new LifeboatError('PG_WRONG_SERVER', message, { hint });
}
