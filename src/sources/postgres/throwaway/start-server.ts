import type { Log } from '../../../base/log.ts';
import { execText } from '../../../docker/exec.ts';
import { HEARTBEAT_S } from '../../../docker/heartbeat.ts';
import { type Helper, type HelperSpec, startHelper } from '../../../docker/helper.ts';
import { TOOLS } from '../server/commands.ts';
import type { AgentContext } from '../server/tools.ts';

/** The account of the server in the image: Postgres refuses to run as root. */
export const SERVER_USER = 'postgres';
export const SERVER_PORT = 5432;

/** Durability costs time, and nobody needs this data after a crash. The server is in a network of its own. */
const SETTINGS = {
  ...{ listen_addresses: '127.0.0.1', port: SERVER_PORT },
  ...{ fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', wal_level: 'minimal', max_wal_senders: 0 },
};

const START_SCRIPT = `${TOOLS}; umask 077; mkdir "$2" || exit 1
initdb --pgdata="$2/data" --username="$0" --auth=trust --encoding=UTF8 --lc-messages=C --no-sync >"$2/log" 2>&1 &&
pg_ctl start --pgdata="$2/data" --log="$2/log" --wait --timeout=120 --options="$1" >/dev/null 2>&1 ||
{ tail -n 5 "$2/log" >&2; exit 1; }`;

interface StartOptions {
  agent: AgentContext;
  image: string;
  /** name of its superuser */
  user: string;
  /** purpose, mounts and limits of the helper, see helper-kinds.ts */
  kind: Omit<HelperSpec, 'runId' | 'project' | 'agent' | 'image'>;
  /** directory to create in the helper. {@link SERVER_USER} may write to its parent. The data is in `data` there */
  directory: string;
  /** settings of the server, by name, besides the usual ones. No value may hold a space or a quote. */
  settings?: Readonly<Record<string, string | number>>;
  runId: string;
  recordHelper(name: string): void;
  /** Prepares the helper before the server is created in it. */
  prepare?(helper: Helper): Promise<void>;
  log: Log;
  signal: AbortSignal;
}

/**
 * Starts an empty Postgres server in a helper without a network. Its programs run as the image's `postgres` user,
 * without capabilities. It accepts every connection from its own network namespace.
 *
 * @returns the helper, which the caller removes
 * @throws EXEC_FAILED with the end of the server's log if the image cannot start a server this way; HELPER_FAILED,
 * ENGINE_*
 */
export async function startServer(options: StartOptions): Promise<Helper> {
  const { agent, image, user, kind, directory, settings = {}, runId, log, signal } = options;
  const { engine, project, id } = agent;
  const helper = await startHelper(
    { engine, recordBefore: async (name) => options.recordHelper(name), log, signal },
    { ...kind, project, agent: id, runId, image },
  );
  const all = { ...SETTINGS, unix_socket_directories: directory, ...settings };
  const arguments_ = Object.entries(all).map(([name, value]) => `-c ${name}=${value}`);
  try {
    await options.prepare?.(helper);
    const argv = ['sh', '-c', START_SCRIPT, user, arguments_.join(' '), directory];
    await execText(engine, helper.id, { argv, user: SERVER_USER, heartbeat: HEARTBEAT_S, signal });
    return helper;
  } catch (error) {
    await helper.remove();
    throw error;
  }
}
