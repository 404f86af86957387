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
  /** where it says that its data is, likewise */
  dataDirectory?: string;
}

/** From the start of the process until the time that it tells clients, seconds: it loads libraries and looks up names first. */
const START_LIMIT_S = 600;
/** By how much a clock may be set back meanwhile. */
const CLOCK_STEP_S = 5;

const RECORD_GONE = 'the record of that one is gone';

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
 * the container records, and by the system identifier in its `pg_control`. A contradiction is final. On a loopback address in a network
 * namespace that no other container shares, a record that is older than the container says nothing of start and port, and no record is
 * needed where the engine cannot read the data directory (a tmpfs, a refusal). Elsewhere a process that only forwards would pass.
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
    const { found } = this.#context;
    const others = await this.#maySendElsewhere(signal);
    if (!others || this.isProved) return others;
    if (!found.postmaster) throw await this.#wrongServer(found, undefined, signal);
    return others;
  }

  /**
   * Proves the server of the first session, and compares that of each later one with it.
   *
   * Errors: PG_WRONG_SERVER, PG_RESTARTED; those of the session and ENGINE_*.
   */
  async check(session: Session, signal: AbortSignal): Promise<void> {
    const proved = this.#proved;
    const { source, found } = this.#context;
    if (!proved) {
      const { superuser, ...seen } = await ask(session);
      const reached = { ...seen, ...(superuser ? await askMore(session) : {}) };
      await this.#prove(reached, signal);
      this.#proved = reached;
      return;
    }
    const now = await ask(session);
    if (now.systemIdentifier !== proved.systemIdentifier || now.port !== proved.port)
      throw await this.#wrongServer(found, 'it is another one than that of the sessions before', signal);
    if (now.startedAt !== proved.startedAt) throw restarted(source.containerName);
  }

  async #prove(reached: ReachedServer, signal: AbortSignal): Promise<void> {
    const { engine, source, found } = this.#context;
    if (found.postmaster && difference(found, reached) === undefined) return;
    // It may have been restarted since.
    const again = await findServer(engine, atItsWord(source, reached), { signal });
    const why = difference(again, reached) ?? (found.postmaster && !again.postmaster ? RECORD_GONE : undefined);
    if (again.postmaster && why === undefined) return;
    if (!(await this.#maySendElsewhere(signal)) && (await this.#isExcused(again, reached, signal))) return;
    throw await this.#wrongServer(again, why, signal);
  }

  /** True where the container has nothing that a server of its own on the loopback would have to agree with. */
  async #isExcused(again: ContainerServer, reached: ReachedServer, signal: AbortSignal): Promise<boolean> {
    const { postmaster, systemIdentifier } = again;
    if (systemIdentifier !== undefined && systemIdentifier !== reached.systemIdentifier) return false;
    if (postmaster) return systemIdentifier !== undefined && (await this.#isStale(postmaster, signal));
    if (this.#context.found.postmaster) return false;
    return again.unread === true || (await this.#onTmpfs(signal)) !== undefined;
  }

  /** The data directory that is on a tmpfs, which the engine does not see (`GET /containers/<id>/archive`). */
  async #onTmpfs(signal: AbortSignal): Promise<string | undefined> {
    const { engine, source } = this.#context;
    const { mounts, tmpfs } = await engine.inspectContainer(source.containerId, { signal });
    const bases = [...mounts.filter(({ type }) => type === 'tmpfs').map(({ destination }) => destination), ...tmpfs];
    // The surest first: an image's usual directory says nothing where another one is named.
    const named = source.dataDirectories[0];
    return named !== undefined && isBelow(named, [...bases, '/dev/shm']) ? named : undefined;
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

  /** @param why in what it is another server; undefined where nothing proves that it is the own one */
  async #wrongServer(found: ContainerServer, why: string | undefined, signal: AbortSignal): Promise<LifeboatError> {
    const { source, address, host } = this.#context;
    const { containerName } = source;
    const message =
      why === undefined
        ? `nothing proves that the server at ${address} is that of database container ${containerName}`
        : `the server at ${address} is not that of database container ${containerName}: ${why}`;
    const shared = host.startsWith('/')
      ? `Two containers may share the socket directory ${host}`
      : (await this.#maySendElsewhere(signal))
        ? 'Another container may share the network of this one (network_mode)'
        : 'A process that only forwards connections (a pooler) is not a server: label the container of the server itself';
    const missing = why === undefined ? await this.#whatIsMissing(found, signal) : undefined;
    const advice =
      missing ?? `Check that the server of ${containerName} is running. Nothing was read from the other, or changed.`;
    return new LifeboatError('PG_WRONG_SERVER', message, { hint: `${shared}. ${advice}` });
  }

  async #whatIsMissing({ refused, systemIdentifier }: ContainerServer, signal: AbortSignal): Promise<string> {
    const { containerName, dataDirectories } = this.#context.source;
    if (refused) return 'Let GET /containers/<id>/archive through in the proxy of the Docker socket.';
    const onTmpfs = await this.#onTmpfs(signal);
    if (onTmpfs !== undefined)
      return `The data directory ${onTmpfs} is on a tmpfs, which the Docker engine cannot read: put it on a volume, or give the container a network of its own.`;
    if (systemIdentifier !== undefined)
      return `The data of ${containerName} has no postmaster.pid, so its server is not running.`;
    return `No postmaster.pid was found in ${dataDirectories.join(', ')}: name the data directory in PGDATA, or with -D in the command.`;
  }
}

function isBelow(directory: string, bases: readonly string[]): boolean {
  return bases.some((base) => directory === base || directory.startsWith(`${base.replace(/\/+$/, '')}/`));
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

/** What only a superuser may see. Some hosts take rights away from superusers; the rest is proof enough. */
async function askMore(session: Session): Promise<Pick<ReachedServer, 'postmaster' | 'dataDirectory'>> {
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
 * The source, with the data directory that the server names: an image may set it in a script. What is read there is in the
 * container, so another server gains nothing by naming one.
 */
function atItsWord(source: PostgresSource, { dataDirectory }: ReachedServer): PostgresSource {
  if (dataDirectory === undefined || !dataDirectory.startsWith('/')) return source;
  return { ...source, dataDirectories: [dataDirectory, ...source.dataDirectories] };
}

/** In what the server that was reached is not the one in the container, in words; undefined if it is the same. */
export function difference(found: ContainerServer, reached: ReachedServer): string | undefined {
  const own = found.postmaster;
  if (found.systemIdentifier !== undefined && found.systemIdentifier !== reached.systemIdentifier)
    return `its system identifier is ${reached.systemIdentifier}, that of the container's data is ${found.systemIdentifier}`;
  if (!own) return undefined;
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
