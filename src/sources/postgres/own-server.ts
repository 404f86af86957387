import type { Engine } from '../../docker/engine.ts';
import { sharesNetwork } from '../../docker/network.ts';
import { LifeboatError } from '../../errors.ts';
import type { PostgresSource } from '../../plan/model.ts';
import { type ContainerServer, findServer, type Postmaster } from './postmaster.ts';
import type { Session } from './session.ts';
import { sqlState } from './sql-state.ts';

/** What a server that was reached says of itself. */
export interface ReachedServer {
  systemIdentifier: string;
  /** seconds since the epoch */
  startedAt: number;
  /** null over a Unix socket */
  port: number | null;
  /** only a superuser may read the following */
  dataDirectory?: string;
  postmaster?: string;
}

/** From the start of the process until the time that it tells clients, seconds: it loads libraries and looks up names first. */
const START_LIMIT_S = 600;
/** By how much a clock may be set back meanwhile. */
const CLOCK_STEP_S = 5;

/**
 * Proves that the server a session has reached is the one in the container, and not another one that listens in the same network
 * namespace: by the start, port and shared memory that `postmaster.pid` in the container records, and by the system identifier in its
 * `pg_control`. Where these cannot be read, a namespace that no other container shares is proof as well.
 *
 * Errors: PG_WRONG_SERVER; those of the session and ENGINE_*.
 */
export async function proveOwn(
  session: Session,
  found: ContainerServer,
  context: { engine: Engine; source: PostgresSource; address: string; signal: AbortSignal },
): Promise<void> {
  const { engine, source, signal } = context;
  const reached = await ask(session);
  let why = found.postmaster && difference(found, reached);
  if (found.postmaster && why === undefined) return;
  // Restarted since, or its data lie where only the server itself knows.
  const said = reached.dataDirectory === undefined ? {} : { said: reached.dataDirectory };
  const again = await findServer(engine, source, { signal, ...said });
  if (again.postmaster) {
    why = difference(again, reached);
    if (why === undefined) return;
  }
  // Nothing but the container's own server can listen in a namespace of its own, whatever an old record says.
  if (!(await sharesNetwork(engine, source.containerId, { signal }))) return;
  throw wrongServer(source, context.address, again.refused ?? false, why);
}

async function ask(session: Session): Promise<ReachedServer> {
  const row = await session.one<Record<'system' | 'started' | 'port' | 'superuser', string>>(
    `SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system,
            extract(epoch FROM pg_postmaster_start_time())::text AS started,
            inet_server_port()::text AS port, current_setting('is_superuser') AS superuser`,
  );
  return {
    systemIdentifier: row.system,
    startedAt: Number(row.started),
    port: row.port === null ? null : Number(row.port),
    ...(row.superuser === 'on' ? await askMore(session) : {}),
  };
}

async function askMore(session: Session): Promise<Pick<ReachedServer, 'dataDirectory' | 'postmaster'>> {
  try {
    const row = await session.one<{ directory: string; postmaster: string }>(
      "SELECT current_setting('data_directory') AS directory, pg_read_file('postmaster.pid') AS postmaster",
    );
    return { dataDirectory: row.directory, postmaster: row.postmaster };
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
