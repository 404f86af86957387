import { hasCode, LifeboatError } from '../base/errors.ts';
import { execStream, execText } from '../docker/exec.ts';
import { HEARTBEAT_S } from '../docker/heartbeat.ts';
import { type Helper, startHelper } from '../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../docker/helper-kinds.ts';
import type { PostgresSource } from '../plan/model.ts';
import { TOOLS } from '../sources/postgres/server/commands.ts';
import { readOnlyMount } from '../sources/postgres/server/helper-mounts.ts';
import type { AgentContext } from '../sources/postgres/server/tools.ts';
import { withWatchdog } from '../sources/postgres/server/watchdog.ts';
import type { CaptureContext } from '../sources/source.ts';
import { watchDisk } from './disk-watch.ts';

const DIRECTORY = '/tmp/lifeboat-import';
const DATA = `${DIRECTORY}/data`;
/** The account of the server in the image: Postgres refuses to run as root. */
const USER = 'postgres';
const PORT = 5432;

/** Durability costs time, and nobody needs this data after a crash. The server is in a network of its own. */
const SETTINGS = {
  ...{ listen_addresses: '127.0.0.1', port: PORT, unix_socket_directories: DIRECTORY },
  ...{ fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', wal_level: 'minimal', max_wal_senders: 0 },
};

const START_SCRIPT = `${TOOLS}; umask 077; mkdir ${DIRECTORY} &&
initdb --pgdata=${DATA} --username="$0" --auth=trust --encoding=UTF8 --lc-messages=C --no-sync >${DIRECTORY}/log 2>&1 &&
pg_ctl start --pgdata=${DATA} --log=${DIRECTORY}/log --wait --timeout=120 --options="$1" >/dev/null 2>&1 ||
{ tail -n 5 ${DIRECTORY}/log >&2; exit 1; }`;

/** The messages that a program printed. */
export interface ProgramResult {
  exitCode: number;
  /** messages of the server, each once, at most {@link KEPT_ERRORS} */
  errors: string[];
  /** how many there were */
  errorCount: number;
  /** the last lines of stderr */
  tail: string;
}

/** More errors than these are counted only. */
const KEPT_ERRORS = 200;

interface ThrowawayOptions {
  agent: AgentContext;
  planned: PostgresSource;
  /** the directory of the spool that the server may read, accessible to every user */
  directory: string;
  recordHelper(name: string): void;
  context: CaptureContext;
}

/**
 * A Postgres server of a source's own image, empty, without network and without any data of the user. SQL from a
 * stranger can run in it: its programs run as the image's `postgres` user without capabilities, with limits for memory,
 * processes and the disk, and see one directory, read-only.
 */
export class ThrowawayServer {
  private readonly options: ThrowawayOptions;
  private readonly helper: Helper;
  private readonly full: AbortSignal;

  private constructor(options: ThrowawayOptions, helper: Helper, full: AbortSignal) {
    this.options = options;
    this.helper = helper;
    this.full = full;
  }

  /**
   * Starts the server. Its superuser is named as that of the source.
   *
   * @throws IMPORT_REFUSED when the image cannot start a server this way; HELPER_FAILED, ENGINE_*
   */
  static async start(options: ThrowawayOptions): Promise<ThrowawayServer> {
    const { agent, planned, directory, context } = options;
    const { engine, project, id, spoolMount } = agent;
    const { log, signal, runId } = context;
    const helper = await startHelper(
      { engine, recordBefore: async (name) => options.recordHelper(name), log, signal },
      {
        ...kindSpec(HELPER_KINDS.import, {
          dump: [readOnlyMount(spoolMount, directory)],
        }),
        ...{ project, agent: id, runId, image: planned.imageId },
      },
    );
    const settings = Object.entries(SETTINGS).map(([name, value]) => `-c ${name}=${value}`);
    try {
      const argv = ['sh', '-c', START_SCRIPT, planned.user, settings.join(' ')];
      await execText(engine, helper.id, { argv, user: USER, heartbeat: HEARTBEAT_S, signal });
      const full = await watchDisk(agent, { container: helper.id, directory: DIRECTORY, signal });
      return new ThrowawayServer(options, helper, full);
    } catch (error) {
      await helper.remove();
      if (!hasCode(error, 'EXEC_FAILED')) throw error;
      throw new LifeboatError(
        'IMPORT_REFUSED',
        `no server for the dump could be started from the image of ${planned.containerName}`,
        {
          cause: error,
          hint: 'Load the dump into a database of your own server instead, and back that up: see "Bringing old backups along" in docs/runbook.md.',
        },
      );
    }
  }

  /** The server as a source to dump. `databases` absent: all but those excluded. */
  sourceOf({ databases, exclude = [] }: { databases?: string[]; exclude?: string[] }): PostgresSource {
    const { name, project, service, schedule, keep, imageId, user } = this.options.planned;
    return {
      kind: 'postgres',
      ...{ name, project, service, schedule, keep, imageId, user, port: PORT },
      ...{ containerId: this.helper.id, containerName: 'the server of the import', database: 'postgres' },
      ...{ dataDirectories: [DATA], mounts: [], excludeDatabases: exclude, excludeTableData: [] },
      ...(databases ? { databases } : {}),
    };
  }

  /** Runs one statement in the database `postgres`. */
  async sql(statement: string): Promise<string> {
    const quiet = ['--no-psqlrc', '--tuples-only', '--no-align', '--quiet', '--set=ON_ERROR_STOP=1'];
    const argv = this.program('psql', [...quiet, '--dbname=postgres']);
    const { engine } = this.options.agent;
    const given = { argv, user: USER, input: statement, signal: this.options.context.signal };
    return (await execText(engine, this.helper.id, given)).stdout.trim();
  }

  /**
   * Runs a program of Postgres to its end, whatever its exit status. `onOutput` gets its stdout.
   *
   * @throws PG_STALLED when the databases have not changed for the stall timeout; PG_NO_SPACE; ENGINE_*
   */
  async run(
    name: 'psql' | 'pg_restore',
    args: readonly string[],
    onOutput?: (chunk: Buffer) => void,
  ): Promise<ProgramResult> {
    const { agent, context } = this.options;
    const said = new Said();
    const watch = {
      ...{ timeoutMs: agent.stallTimeoutMs, intervalMs: 5000, what: 'loading the dump' },
      signal: AbortSignal.any([context.signal, this.full]),
      pulses: [() => this.pulse()],
    };
    const exitCode = await withWatchdog(watch, async (signal) => {
      const command = await execStream(agent.engine, this.helper.id, {
        ...{ argv: this.program(name, args), user: USER, heartbeat: HEARTBEAT_S, check: false, signal },
        onStderr: (chunk) => said.add(chunk),
      });
      if (onOutput) command.stdout.on('data', onOutput);
      else command.stdout.resume();
      return (await command.done).exitCode;
    });
    return { exitCode, ...said.end() };
  }

  /** Never rejects. */
  async remove(): Promise<void> {
    await this.helper.remove();
  }

  private program(name: string, args: readonly string[]): string[] {
    const where = `PGHOST=127.0.0.1 PGPORT=${PORT} PGUSER="$0" PGOPTIONS="-c client_min_messages=error" LC_ALL=C`;
    const connection = `${TOOLS}; export ${where}; exec ${name} "$@"`;
    return ['sh', '-c', connection, this.options.planned.user, ...args];
  }

  private async pulse(): Promise<string> {
    const now = await this.sql('SELECT sum(pg_database_size(oid)), pg_current_wal_insert_lsn() FROM pg_database');
    this.options.context.progress({ phase: 'loading the dump', done: Number(now.split('|')[0]) });
    return now;
  }
}

/** Errors of the server among what a program says. */
class Said {
  private readonly errors = new Set<string>();
  private count = 0;
  private line = '';
  private tail: string[] = [];

  add(chunk: Buffer): void {
    const lines = (this.line + chunk.toString('utf8')).split('\n');
    this.line = (lines.pop() ?? '').slice(0, 2000);
    for (const line of lines) this.read(line);
  }

  end(): Omit<ProgramResult, 'exitCode'> {
    this.read(this.line);
    return { errors: [...this.errors], errorCount: this.count, tail: this.tail.join('\n') };
  }

  private read(line: string): void {
    if (line === '') return;
    this.tail = [...this.tail, line.slice(0, 300)].slice(-5);
    const message = /(?:ERROR|FATAL): {2}(.*)$/.exec(line)?.[1];
    if (message === undefined || isExpected(message)) return;
    this.count++;
    if (this.errors.size < KEPT_ERRORS) this.errors.add(message.slice(0, 300));
  }
}

/** pg_dumpall creates the roles and databases that every server has (Postgres docs, pg_dumpall, Notes). */
function isExpected(message: string): boolean {
  return /^(?:role ".*"|database "(?:postgres|template1)") already exists$/.test(message);
}
