import { LifeboatError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Engine } from '../../docker/engine.ts';
import { execStream, execText } from '../../docker/exec.ts';
import { HEARTBEAT_S } from '../../docker/heartbeat.ts';
import { type Helper, startHelper } from '../../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../../docker/helper-kinds.ts';
import { LineBuffer } from '../../docker/lines.ts';
import type { Mount, PostgresSource } from '../../plan/model.ts';
import type { PointInTime } from '../../plan/values/point-in-time.ts';
import { TOOLS } from '../../sources/postgres/server/commands.ts';
import { partOfSpool, readOnlyMount } from '../../sources/postgres/server/helper-mounts.ts';
import type { AgentContext } from '../../sources/postgres/server/tools.ts';
import type { WalExchange } from './wal-server.ts';

/** The data directory in the helper. */
const DATA = '/lifeboat/data';
const RUNTIME = '/run/lifeboat';

interface RecoveringOptions {
  agent: AgentContext;
  image: string;
  runId: string;
  /** the volume that holds the base backup */
  volume: Mount;
  /** the owner of the data */
  uid: number;
  gid: number;
  exchange: WalExchange;
  recordHelper(name: string): void;
  log: Log;
  signal: AbortSignal;
}

/** Where the recovery ends. */
interface RecoveryTarget {
  /** absent: at the end of the WAL */
  time?: PointInTime;
  /** the timeline to follow; absent: that of the base backup */
  timeline?: number;
}

/** How a recovery ended. */
export interface Recovered {
  /** `target`: before the first transaction after the target; `end`: at the end of the WAL */
  at: 'target' | 'end';
  /** the server's words about the place at which it stopped */
  stopped?: string;
  /** commit time of the last transaction that was recovered, as the server prints it */
  lastCommit?: string;
}

/** Waits for a file that the agent fetches. The name comes from Postgres, and has only letters, digits and a dot. */
const FETCH_SCRIPT = `: > "/lifeboat/wanted/$1" || exit 2
while [ ! -e "/lifeboat/wal/$1" ]; do [ -e "/lifeboat/wal/$1.none" ] && exit 1; sleep 0.05; done
exec cp "/lifeboat/wal/$1" "$2"
`;

/**
 * Starts the server. The settings that a standby's memory depends on are those of the primary, as the control file has
 * them, because transactions that were prepared there need as much space here (Postgres docs, 26.4.3).
 */
const START_SCRIPT = `${TOOLS}; data=$0; umask 077; export LC_ALL=C
printf '%s' "$FETCH" > ${RUNTIME}/fetch && : > ${RUNTIME}/postgresql.conf && : > ${RUNTIME}/pg_ident.conf &&
echo 'local all all trust' > ${RUNTIME}/pg_hba.conf && : > "$data/recovery.signal" && rm -f "$data/standby.signal" || exit 1
of() { pg_controldata -D "$data" | sed -n "s/^$1 setting: *//p"; }
exec postgres -D "$data" "$@" -c max_connections="$(of max_connections)" \\
  -c max_worker_processes="$(of max_worker_processes)" -c max_wal_senders="$(of max_wal_senders)" \\
  -c max_prepared_transactions="$(of max_prepared_xacts)" -c max_locks_per_transaction="$(of max_locks_per_xact)"`;

const SERVE_SCRIPT = `${TOOLS}; export LC_ALL=C
printf 'local all all trust\\nhost all all 127.0.0.1/32 trust\\n' > ${RUNTIME}/pg_hba.conf || exit 1
data=$0; exec postgres -D "$data" "$@"`;

/** None of the server's own configuration applies: it may name files, libraries and addresses that are not there. */
const SETTINGS: Readonly<Record<string, string>> = {
  config_file: `${RUNTIME}/postgresql.conf`,
  hba_file: `${RUNTIME}/pg_hba.conf`,
  ident_file: `${RUNTIME}/pg_ident.conf`,
  listen_addresses: '',
  unix_socket_directories: RUNTIME,
  external_pid_file: '',
  hot_standby: 'off',
  ssl: 'off',
  archive_mode: 'off',
  logging_collector: 'off',
  log_destination: 'stderr',
  log_min_messages: 'warning',
  log_line_prefix: '',
  lc_messages: 'C',
  shared_preload_libraries: '',
  session_preload_libraries: '',
  local_preload_libraries: '',
  synchronous_standby_names: '',
  primary_conninfo: '',
  primary_slot_name: '',
  recovery_end_command: '',
  archive_cleanup_command: '',
  recovery_target: '',
  recovery_target_name: '',
  recovery_target_xid: '',
  recovery_target_lsn: '',
  shared_buffers: '128MB',
  huge_pages: 'off',
  max_wal_size: '4GB',
  autovacuum: 'off',
  recovery_target_action: 'promote',
  restore_command: `sh ${RUNTIME}/fetch "%f" "%p"`,
};

const ENDED_EARLY = /recovery ended before configured recovery target was reached/;

/**
 * Recovers a base backup in a volume, in a server of its own image, without network. Afterwards the volume holds a
 * server that was shut down cleanly, on a timeline of its own.
 */
export class RecoveringServer {
  private readonly options: RecoveringOptions;
  private readonly helper: Helper;

  private constructor(options: RecoveringOptions, helper: Helper) {
    this.options = options;
    this.helper = helper;
  }

  /** @throws HELPER_FAILED if the image is not there; ENGINE_* */
  static async start(options: RecoveringOptions): Promise<RecoveringServer> {
    const { agent, image, runId, volume, uid, gid, exchange, log, signal } = options;
    const { engine, project, id, spoolMount } = agent;
    const helper = await startHelper(
      { engine, recordBefore: async (name) => options.recordHelper(name), log, signal },
      {
        ...kindSpec(HELPER_KINDS.recovery, {
          data: [{ mount: volume, target: DATA }],
          wal: [{ ...readOnlyMount(spoolMount, exchange.files), target: '/lifeboat/wal' }],
          wanted: [{ mount: partOfSpool(spoolMount, exchange.wanted), target: '/lifeboat/wanted' }],
        }),
        ...{ project, agent: id, runId, image, user: `${uid}:${gid}` },
      },
    );
    return new RecoveringServer(options, helper);
  }

  /**
   * Recovers to a target, and shuts the server down.
   *
   * @param onLine called with each message of the server
   * @throws PG_RESTORE_FAILED with the server's words
   */
  async recover(target: RecoveryTarget, onLine: (line: string) => void): Promise<Recovered> {
    const first = await this.attempt(target, onLine);
    if (first !== 'ended early') return first;
    // The target is inside the window, and nothing was committed between the last transaction and it.
    const { time: _, ...rest } = target;
    const second = await this.attempt(rest, onLine);
    if (second === 'ended early') throw new LifeboatError('PG_RESTORE_FAILED', 'the recovery did not reach its target');
    return second;
  }

  /**
   * Starts the recovered server for connections from its own address, which only containers in its network can make.
   *
   * @returns the server as a source
   * @throws PG_RESTORE_FAILED
   */
  async serve(planned: PostgresSource, databases: string[] | undefined): Promise<PostgresSource> {
    const { agent, image, signal } = this.options;
    const settings = { ...SETTINGS, listen_addresses: '127.0.0.1', port: '5432', hot_standby: 'on' };
    const { ready, ended, messages } = await this.begin(SERVE_SCRIPT, settings, () => undefined);
    if (!(await Promise.race([ready.then(() => true), ended.then(() => false)])))
      throw messages.failure('did not start');
    signal.throwIfAborted();
    const { name, project, service, schedule, keep, user, excludeTableData } = planned;
    return {
      kind: 'postgres',
      ...{ name, project, service, schedule, keep, user, excludeTableData, imageId: image, port: 5432 },
      ...{ containerId: this.helper.id, containerName: `the recovered server of ${name}`, database: 'postgres' },
      ...{ dataDirectories: [DATA], mounts: [], excludeDatabases: planned.excludeDatabases },
      ...{ project: agent.project },
      ...(databases ? { databases } : {}),
    };
  }

  /** Never rejects. */
  async remove(): Promise<void> {
    await this.helper.remove();
  }

  private async attempt(
    { time, timeline }: RecoveryTarget,
    onLine: (line: string) => void,
  ): Promise<Recovered | 'ended early'> {
    const { agent, signal } = this.options;
    const settings = {
      ...SETTINGS,
      recovery_target_time: time?.text ?? '',
      recovery_target_timeline: timeline === undefined ? 'current' : String(timeline),
    };
    const { ready, ended, messages } = await this.begin(START_SCRIPT, settings, onLine);
    const isReady = await Promise.race([ready.then(() => true), ended.then(() => false)]);
    if (!isReady) return messages.outcome(false);
    await this.shutDown(agent.engine, signal);
    if ((await ended) !== 0) throw messages.failure('did not shut down cleanly');
    return messages.outcome(true);
  }

  /** Runs a script that becomes the server. `ended` resolves to its exit status. */
  private async begin(script: string, settings: Readonly<Record<string, string>>, onLine: (line: string) => void) {
    const { agent, signal } = this.options;
    const options = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const messages = new Messages(onLine);
    const command = await execStream(agent.engine, this.helper.id, {
      argv: ['sh', '-c', script, DATA, ...options],
      env: { FETCH: FETCH_SCRIPT },
      heartbeat: HEARTBEAT_S,
      onStderr: (chunk) => messages.add(chunk),
      check: false,
      signal,
    });
    command.stdout.resume();
    const ended = command.done.then(({ exitCode }) => exitCode);
    // The server ends with its helper, when nobody waits for it any more.
    ended.catch(() => undefined);
    return { ready: messages.ready, ended, messages };
  }

  private async shutDown(engine: Engine, signal: AbortSignal): Promise<void> {
    const argv = ['sh', '-c', `${TOOLS}; exec pg_ctl stop --pgdata="$0" --mode=fast --wait --timeout=86400`, DATA];
    await execText(engine, this.helper.id, { argv, heartbeat: HEARTBEAT_S, signal });
  }
}

/** What a recovering server says. */
class Messages {
  readonly ready: Promise<void>;
  private becomeReady: () => void = () => undefined;
  private readonly lines: LineBuffer;
  private readonly last: string[] = [];
  private readonly found: Omit<Recovered, 'at'> = {};

  constructor(onLine: (line: string) => void) {
    this.ready = new Promise((resolve) => {
      this.becomeReady = resolve;
    });
    this.lines = new LineBuffer();
    this.onLine = onLine;
  }

  private readonly onLine: (line: string) => void;

  add(chunk: Buffer): void {
    for (const line of this.lines.split(chunk)) this.read(line);
  }

  /** @throws PG_RESTORE_FAILED for a server that ended by itself, unless it only lacked WAL for its target */
  outcome(isReady: boolean): Recovered | 'ended early' {
    if (!isReady && this.last.some((line) => ENDED_EARLY.test(line))) return 'ended early';
    if (!isReady) throw this.failure('ended before the recovery was complete');
    return { at: this.found.stopped === undefined ? 'end' : 'target', ...this.found };
  }

  failure(what: string): LifeboatError {
    const words = this.last.filter((line) => /FATAL|PANIC|ERROR|HINT|DETAIL/.test(line)).slice(-4);
    return new LifeboatError(
      'PG_RESTORE_FAILED',
      `the recovering server ${what}: ${words.join(' · ') || 'it says nothing'}`,
    );
  }

  private read(line: string): void {
    this.last.push(line.slice(0, 500));
    if (this.last.length > 50) this.last.shift();
    this.onLine(line);
    const stopped = /recovery stopping (.*)$/.exec(line)?.[1];
    if (stopped !== undefined) this.found.stopped = stopped;
    const commit = /last completed transaction was at log time (.*)$/.exec(line)?.[1];
    if (commit !== undefined) this.found.lastCommit = commit;
    if (/database system is ready to accept connections/.test(line)) this.becomeReady();
  }
}
