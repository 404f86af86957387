import { hasCode, LifeboatError } from '../base/errors.ts';
import { execStream, execText } from '../docker/exec.ts';
import { HEARTBEAT_S } from '../docker/heartbeat.ts';
import type { Helper } from '../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../docker/helper-kinds.ts';
import type { PostgresSource } from '../plan/model.ts';
import { TOOLS } from '../sources/postgres/server/commands.ts';
import { readOnlyMount } from '../sources/postgres/server/helper-mounts.ts';
import type { AgentContext } from '../sources/postgres/server/tools.ts';
import { withWatchdog } from '../sources/postgres/server/watchdog.ts';
import { watchDisk } from '../sources/postgres/throwaway/disk-watch.ts';
import { SERVER_PORT, SERVER_USER, startServer } from '../sources/postgres/throwaway/start-server.ts';
import type { CaptureContext } from '../sources/source.ts';

const DIRECTORY = '/tmp/lifeboat-import';

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
    const { log, signal, runId } = context;
    const kind = kindSpec(HELPER_KINDS.import, { dump: [readOnlyMount(agent.spoolMount, directory)] });
    const { image, user } = { image: planned.imageId, user: planned.user };
    const recordHelper = options.recordHelper;
    const where = { agent, image, user, kind, directory: DIRECTORY };
    const helper = await startServer({ ...where, runId, recordHelper, log, signal }).catch((error: unknown) => {
      if (!hasCode(error, 'EXEC_FAILED')) throw error;
      throw new LifeboatError(
        'IMPORT_REFUSED',
        `no server for the dump could be started from the image of ${planned.containerName}`,
        {
          cause: error,
          hint: 'Load the dump into a database of your own server instead, and back that up: see "Importing old backups" in docs/runbook.md.',
        },
      );
    });
    try {
      const hint = 'Nothing was stored. Free space on that disk. If you expect the dump to be small, do not trust it.';
      const full = await watchDisk(agent, { container: helper.id, directory: DIRECTORY, hint, signal });
      return new ThrowawayServer(options, helper, full);
    } catch (error) {
      await helper.remove();
      throw error;
    }
  }

  /** The server as a source to dump. `databases` absent: all but those excluded. */
  sourceOf({ databases, exclude = [] }: { databases?: string[]; exclude?: string[] }): PostgresSource {
    const { name, project, service, schedule, keep, imageId, user } = this.options.planned;
    return {
      kind: 'postgres',
      ...{ name, project, service, schedule, keep, imageId, user, port: SERVER_PORT },
      ...{ containerId: this.helper.id, containerName: 'the server of the import', database: 'postgres' },
      ...{ dataDirectories: [`${DIRECTORY}/data`], mounts: [], excludeDatabases: exclude, excludeTableData: [] },
      ...(databases ? { databases } : {}),
    };
  }

  /** Runs one statement in the database `postgres`. */
  async sql(statement: string): Promise<string> {
    const quiet = ['--no-psqlrc', '--tuples-only', '--no-align', '--quiet', '--set=ON_ERROR_STOP=1'];
    const argv = this.program('psql', [...quiet, '--dbname=postgres']);
    const { engine } = this.options.agent;
    const given = { argv, user: SERVER_USER, input: statement, signal: this.options.context.signal };
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
        ...{ argv: this.program(name, args), user: SERVER_USER, heartbeat: HEARTBEAT_S, check: false, signal },
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
    const where = `PGHOST=127.0.0.1 PGPORT=${SERVER_PORT} PGUSER="$0" PGOPTIONS="-c client_min_messages=error" LC_ALL=C`;
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
