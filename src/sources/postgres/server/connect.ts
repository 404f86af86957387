import { hasCode } from '../../../base/errors.ts';
import type { Engine } from '../../../docker/engine.ts';
import { execText } from '../../../docker/exec.ts';
import type { Helper } from '../../../docker/helper.ts';
import { execSocket, socketTunnelArgv, tunnelArgv } from '../../../docker/tunnel.ts';
import type { PostgresSource } from '../../../plan/model.ts';
import { describeAddress, type ServerAddress } from './address.ts';
import type { Connection } from './commands.ts';
import { isHostRefusal, NO_PROGRAMS_ARGV, noPostgres } from './connect-error.ts';
import { type Credentials, writePassfile } from './credentials.ts';
import { ServerProof } from './own-server.ts';
import type { ContainerServer } from './postmaster.ts';
import { explainCrashLoop } from './restarted.ts';
import { openSession, type Session } from './session.ts';
import { SessionStart } from './session-start.ts';
import { sqlState } from './sql-state.ts';

/** The options of {@link connectThrough}. */
interface ConnectOptions {
  engine: Engine;
  helper: Helper;
  source: PostgresSource;
  /** the server as recorded in the container's file system */
  found: ContainerServer;
  address: ServerAddress;
  credentials: Credentials;
  application: string;
  signal: AbortSignal;
}

/** Connects sessions and programs to the server of a database container. */
export interface Connector {
  connection: Connection;
  /**
   * Opens a session, with TLS if the server requires it. The first session proves that the server belongs to the
   * container.
   */
  open(database: string, application: string, signal: AbortSignal): Promise<Session>;
  start: SessionStart;
  /** True once a session has proved the server. */
  isProved(): boolean;
}

/**
 * Creates a connector, and writes the password file for programs. Opens no connection yet.
 *
 * @throws PG_STALLED, EXEC_FAILED
 */
export async function connectThrough(options: ConnectOptions): Promise<Connector> {
  const { engine, helper, source, found, address, credentials, application } = options;
  const { user, password } = credentials;
  if (password !== undefined) await writePassfile(options, user, password);
  const { host, port } = address;
  const at = describeAddress(address);
  const argv = host.startsWith('/') ? socketTunnelArgv(at) : tunnelArgv(port, host);
  const dial = async (signal: AbortSignal) => execSocket(engine, helper.id, argv, { signal });
  const start = new SessionStart();
  const proof = new ServerProof({ engine, source, found, host, address: at });
  let tls = false;
  const attempt = (database: string, name: string, signal: AbortSignal, how: { tls: boolean; guarded: boolean }) =>
    start.open((options) =>
      openSession({
        dial,
        start: options,
        ...credentials,
        ...(source.passwordFrom === undefined ? {} : { passwordFrom: source.passwordFrom }),
        database,
        application: name,
        container: source.containerName,
        address: at,
        ...how,
        signal,
      }),
    );
  const explain = async (error: unknown) => {
    const explained = await explainCrashLoop(error, { engine, id: source.containerId });
    throw explained === error ? await explainPrograms(error, options) : explained;
  };
  const openOnce = async (database: string, name: string, signal: AbortSignal) => {
    const guarded = await proof.mayBeAnother(signal);
    try {
      return await attempt(database, name, signal, { tls, guarded });
    } catch (error) {
      if (!isHostRefusal(error)) throw error;
      // pg_hba.conf may have different lines for each database: `hostssl` for one, `hostnossl` for another.
      const session = await attempt(database, name, signal, { tls: !tls, guarded }).catch((second: unknown) => {
        throw isHostRefusal(second) || isWithoutTls(second) ? error : second;
      });
      tls = !tls;
      return session;
    }
  };
  const open = async (database: string, name: string, signal: AbortSignal): Promise<Session> => {
    const session = await openOnce(database, name, signal).catch(explain);
    try {
      await proof.check(session, signal);
      if (!(await start.lacksChosenRole(session))) return session;
    } catch (error) {
      await session.close();
      throw error;
    }
    await session.close();
    return open(database, name, signal);
  };
  return { connection: { user, host, port, application }, start, isProved: () => proof.isProved, open };
}

/** The longest look at the programs of an image, milliseconds. */
const LOOK_MS = 5000;

/** Returns another error in place of one of a container whose image has no Postgres: a label on the wrong service. */
export async function explainPrograms(
  error: unknown,
  { engine, helper, source, signal }: Pick<ConnectOptions, 'engine' | 'source' | 'signal'> & { helper: { id: string } },
): Promise<unknown> {
  if (signal.aborted || sqlState(error) !== undefined || !hasCode(error, 'PG_UNREACHABLE', 'EXEC_FAILED')) return error;
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LOOK_MS)]);
  const look = execText(engine, helper.id, { argv: NO_PROGRAMS_ARGV, signal: limit });
  const programs = await look.then(
    ({ stdout }) => stdout.trim(),
    () => undefined,
  );
  return programs === 'none' ? noPostgres(source.containerName, error) : error;
}

function isWithoutTls(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) if (/does not support SSL/.test(e.message)) return true;
  return false;
}
