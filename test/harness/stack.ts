import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunReport } from '../../src/report/events.ts';
import { checkOutput } from '../json/documents.ts';
import {
  bridgeGateway,
  dockerCall,
  onTerminal,
  type Ran,
  removeContainers,
  removeNetworksAndVolumes,
  type Terminal,
} from './docker.ts';
import { type Receiver, startReceiver } from './receiver.ts';

import { askDirectly, oneStatement } from './sql.ts';

export type { Ran };

/** Runs a program on the host. Rejects only if the program cannot be started. */
export function sh(
  command: string,
  args: readonly string[],
  options: { input?: string; cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Ran> {
  const called = command === 'docker' ? dockerCall(args, options.input) : undefined;
  if (called) return called;
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      [...args],
      { cwd: options.cwd, env: options.env ?? process.env, maxBuffer: 256 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error && typeof error.code === 'string') reject(error);
        else resolve({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr });
      },
    );
    // A program may end without reading its input. Its status shows the result.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input ?? '');
  });
}

/** Like {@link sh}, but rejects for a status other than 0, with the output of the program. */
export async function ok(
  command: string,
  args: readonly string[],
  options: Parameters<typeof sh>[2] = {},
): Promise<string> {
  const ran = await sh(command, args, options);
  if (ran.code !== 0) throw new Error(`${command} ${args.join(' ')} → ${ran.code}\n${ran.stdout}\n${ran.stderr}`);
  return ran.stdout;
}

/**
 * Waits until `check` returns something truthy. Fails after `ms`. Between two checks it waits for `everyMs`, and at
 * least twice as long as the last check took, because checks that run commands in containers would otherwise use a
 * whole core.
 */
export async function until<T>(
  what: string,
  check: () => Promise<T | undefined | false>,
  ms = 180_000,
  everyMs = 200,
): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const from = performance.now();
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`timed out waiting until ${what}`);
    await sleep(Math.max(everyMs, Math.min(2 * (performance.now() - from), 2000)));
  }
}

/**
 * Returns the result of `moment`, which occurs while something runs. If that ends first, fails at once with its result.
 */
export function whileRuns<T>(ended: Promise<unknown>, moment: Promise<T>): Promise<T> {
  const over = ended.then((how) => {
    throw new Error(`it was over before: ${JSON.stringify(how, null, 1)}`);
  });
  return Promise.race([moment, over]);
}

export interface StackOptions {
  /** services besides `lifeboat`, in the schema of a Compose file (an object, written as JSON) */
  services: Record<string, object>;
  volumes?: Record<string, object>;
  secrets?: Record<string, object>;
  /** settings of the agent */
  env?: Record<string, string>;
  /** further keys of the lifeboat service; for example, `volumes` are added to the usual ones */
  agent?: { volumes?: string[]; [key: string]: unknown };
  /** starts the agent too (default), or only the other services */
  startAgent?: boolean;
  /** starts a healthchecks.io and Slack receiver on the host, which the agent's settings use (default true) */
  receiver?: boolean;
  image?: string;
}

/** Returns the IP address of the host as containers on the default bridge see it. */
export async function hostAddress(): Promise<string> {
  return (await bridgeGateway()) || '172.17.0.1';
}

/** Returns a schedule half a day from now, once a day, so no scheduled run disturbs a test. */
export function farAway(now = new Date()): string {
  return `${now.getUTCMinutes()} ${(now.getUTCHours() + 12) % 24} * * *`;
}

/** The suffix of the name of the container that marks a project as in use. */
const MARK = '-lock';

/** A Compose project on the real engine, with the real agent in it. `destroy` removes everything that it created. */
export class Stack {
  readonly project: string;
  /** on the host: contains the Compose file, and `backups` */
  readonly directory: string;
  readonly receiver: Receiver | undefined;
  readonly rid = randomBytes(3).toString('hex');
  private readonly schedule = farAway();

  private constructor(project: string, directory: string, receiver: Receiver | undefined) {
    this.project = project;
    this.directory = directory;
    this.receiver = receiver;
  }

  static async start(options: StackOptions): Promise<Stack> {
    const project = `lbt-${randomBytes(4).toString('hex')}`;
    const directory = await mkdtemp(path.join(tmpdir(), `${project}-`));
    const receiver = options.receiver === false ? undefined : await startReceiver({ host: '0.0.0.0' });
    const stack = new Stack(project, directory, receiver);
    await mkdir(path.join(directory, 'backups'));
    await stack.write(options);
    const services = options.startAgent === false ? Object.keys(options.services) : [];
    try {
      await stack.compose('up', '--detach', '--wait', '--wait-timeout', '280', ...services);
    } catch (error) {
      await stack.destroy();
      throw error;
    }
    return stack;
  }

  /** The receiver's URL for containers, without a trailing slash. */
  async receiverUrl(): Promise<string | undefined> {
    return this.receiver && `http://${await hostAddress()}:${this.receiver.port}`;
  }

  /** Rewrites the Compose file; `compose('up', …)` applies it. */
  async write(options: StackOptions): Promise<void> {
    const { volumes: extra = [], environment, ...agent } = options.agent ?? {};
    const socket = (process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock').replace('unix://', '');
    const hooks = await this.receiverUrl();
    const lifeboat = {
      image: options.image ?? process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test',
      stop_grace_period: '20s',
      healthcheck: healthcheck('find /run/lifeboat/alive -mmin -2 | grep -q .'),
      volumes: [`${socket}:/var/run/docker.sock`, './backups:/backups', 'spool:/spool', ...extra],
      environment: {
        LOG_LEVEL: 'info',
        LIFEBOAT_SCHEDULE: this.schedule,
        // The weekly drill would begin in the middle of a test that runs at its time.
        LIFEBOAT_DRILL: 'off',
        ...(hooks
          ? {
              LIFEBOAT_HEALTHCHECKS_URL: `${hooks}/ping/${this.rid}-4a1e-4d57-8f6e-000000000000`,
              LIFEBOAT_SLACK_WEBHOOK_URL: `${hooks}/services/T00/B00/${this.rid}`,
            }
          : {}),
        ...options.env,
        ...(environment as object | undefined),
      },
      ...agent,
    };
    const file = {
      name: this.project,
      services: { ...options.services, lifeboat },
      volumes: { spool: {}, ...options.volumes },
      ...(options.secrets ? { secrets: options.secrets } : {}),
    };
    await writeFile(path.join(this.directory, 'compose.yaml'), JSON.stringify(file, null, 2));
  }

  compose(...args: string[]): Promise<string> {
    return ok('docker', ['compose', '--progress', 'quiet', ...args], { cwd: this.directory });
  }

  /**
   * Returns the name of a service's first container, for `docker`, because `docker compose` takes twice as long to
   * start.
   */
  private container(service: string): string {
    return `${this.project}-${service}-1`;
  }

  /** Returns the id of a service's container, running or not. */
  async id(service: string): Promise<string> {
    const labels = { project: this.project, service, oneoff: 'False' };
    const filters = Object.entries(labels).flatMap(([name, value]) => [
      '--filter',
      `label=com.docker.compose.${name}=${value}`,
    ]);
    return (await ok('docker', ['ps', '--all', '--quiet', '--no-trunc', ...filters])).trim();
  }

  exec(service: string, argv: readonly string[], input?: string): Promise<string> {
    return ok('docker', ['exec', '--interactive', this.container(service), ...argv], {
      ...(input === undefined ? {} : { input }),
    });
  }

  /** Runs `lifeboat …` in the agent. Resolves whatever the outcome. @throws if JSON output is not as docs/json says */
  async lifeboat(...args: string[]): Promise<Ran> {
    const ran = await sh('docker', ['exec', '--interactive', this.container('lifeboat'), 'lifeboat', ...args]);
    checkOutput(args, ran.stdout);
    return ran;
  }

  /** Like `lifeboat`, but repeats the command while it is refused as LOCKED, because the daemon may be cleaning up. */
  lifeboatInTurn(...args: string[]): Promise<Ran> {
    return until('nobody else is at work', async () => {
      const ran = await this.lifeboat(...args);
      return ran.code !== 11 && ran;
    });
  }

  /**
   * Waits for the first window of point-in-time recovery. On a busy machine, the first base backup may fail; the agent
   * tries again after one, two and four minutes.
   */
  async untilWindow(isOpen: () => Promise<boolean>): Promise<void> {
    // A base backup takes seconds, and each look at the windows is a command in the agent.
    const isCommitted = async () => (await this.objects()).some((key) => key.endsWith('/manifest.json'));
    const opens = async () => (await isCommitted()) && (await isOpen());
    await until('the first window is open', opens, 480_000).catch(async (error: Error) => {
      const { stderr } = await sh('docker', ['logs', '--tail', '50', this.container('lifeboat')]);
      throw new Error(`${error.message}\n${stderr}`);
    });
  }

  /**
   * Waits until a receiver of WAL has reported a position to its server: it has received everything before. The server
   * answers this for a hundredth of what a command in the agent costs.
   */
  async untilReceived(lsn: string, service = 'db'): Promise<void> {
    // The receiver syncs its files at the end of a segment only, and reports a flushed position then.
    const received = `SELECT count(*) FROM pg_stat_replication WHERE write_lsn >= '${lsn}'`;
    await until('the WAL is received', async () => (await this.psql(received, { service })) !== '0');
  }

  /** Like `lifeboat`, but leaves the command running, for tests that disturb it. */
  spawn(...args: string[]): ChildProcess {
    return this.spawnWith({}, ...args);
  }

  /** Like `lifeboat`, with settings for this command alone. */
  spawnWith(env: Record<string, string>, ...args: string[]): ChildProcess {
    const settings = Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
    return spawn('docker', ['exec', ...settings, this.container('lifeboat'), 'lifeboat', ...args]);
  }

  /** Like `lifeboat`, typed by a user at a terminal. */
  terminal(args: string[], env: string[] = []): Promise<Terminal> {
    return onTerminal(this.container('lifeboat'), ['lifeboat', ...args], env);
  }

  /** Runs `backup --json`. Returns the parsed report. */
  async backup(...sources: string[]): Promise<{ code: number; report: RunReport; stderr: string }> {
    const { code, stdout, stderr } = await this.lifeboat('backup', '--json', ...sources);
    try {
      return { code, report: JSON.parse(stdout) as RunReport, stderr };
    } catch {
      throw new Error(`backup gave no report (${code}):\n${stdout}\n${stderr}`);
    }
  }

  async json<T>(...args: string[]): Promise<T> {
    const { stdout, stderr } = await this.lifeboat(...args, '--json');
    try {
      return JSON.parse(stdout) as T;
    } catch {
      throw new Error(`lifeboat ${args.join(' ')} gave no JSON:\n${stdout}\n${stderr}`);
    }
  }

  /**
   * Runs SQL with the result that psql in the database container has as its superuser: unaligned rows without a header.
   */
  async psql(sql: string, { service = 'db', database = 'postgres', user = 'postgres' } = {}): Promise<string> {
    const statement = oneStatement(sql);
    const server = { container: this.container(service), database, user, password: PASSWORD };
    const answer = statement === undefined ? undefined : await askDirectly(server, statement);
    if (answer !== undefined) return answer;
    const argv = ['psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-U', user, '-d', database, '-f', '-'];
    return (await this.exec(service, argv, sql)).replace(/\n$/, '');
  }

  /** Runs `docker pause`, and repeats it while the engine cannot freeze a busy process. */
  async pause(container: string): Promise<void> {
    await until(`${container} is paused`, async () => {
      const { code, stderr } = await sh('docker', ['pause', container]);
      return code === 0 || stderr.includes('already paused');
    });
  }

  logs(service: string): Promise<string> {
    return ok('docker', ['compose', 'logs', '--no-color', '--no-log-prefix', service], { cwd: this.directory });
  }

  /** Returns the names of this project's helpers, running or not, without the mark. */
  async helpers(): Promise<string[]> {
    return (await this.containers()).filter((name) => !name.endsWith(MARK));
  }

  /**
   * Returns whether the mark exists that shows that the project is in use. The daemon also sets it while it looks for
   * dead runs, each minute.
   */
  async isMarked(): Promise<boolean> {
    return (await this.containers()).some((name) => name.endsWith(MARK));
  }

  private async containers(): Promise<string[]> {
    const filter = `label=dev.lifeboat.project=${this.project}`;
    const out = await ok('docker', ['ps', '--all', '--filter', filter, '--format', '{{.Names}}']);
    return out.split('\n').filter((line) => line !== '');
  }

  /** Returns every file of the repository as a relative path, sorted, including `.tmp` leftovers. */
  async objects(): Promise<string[]> {
    const out = await ok('find', ['.', '-type', 'f', '-printf', '%P\n'], { cwd: path.join(this.directory, 'backups') });
    return out
      .split('\n')
      .filter((line) => line !== '')
      .sort();
  }

  async destroy(): Promise<void> {
    await removeContainers(`com.docker.compose.project=${this.project}`);
    // Without the agent, no more helpers are created.
    await removeContainers(`dev.lifeboat.project=${this.project}`);
    await removeNetworksAndVolumes(this.project);
    await this.receiver?.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/**
 * A health check whose first run waits until the command succeeds, and whose later runs do nothing for a minute. The
 * engine needs eight times as much time to start a process in a container as the loop does, and with many stacks these
 * starts used a third of the machine. /dev/shm is new whenever the container starts.
 */
export function healthcheck(command: string): object {
  const test = `test -e /dev/shm/well && sleep 60; until ${command}; do sleep 0.3; done; : >/dev/shm/well`;
  return { test: ['CMD-SHELL', test], interval: '1s', timeout: '70s', retries: 600 };
}

/** The superuser's password, unless a test sets another. */
const PASSWORD = 'canary-pg-password';

/** A Postgres service as most tests need it: healthy means ready. */
export function postgres(version: number | string = 17, extra: Record<string, unknown> = {}): object {
  const { environment, ...rest } = extra;
  return {
    image: `postgres:${version}`,
    // Tests kill servers and containers, but never the machine.
    ...('image' in extra ? {} : { command: ['postgres', '-c', 'fsync=off'] }),
    environment: {
      POSTGRES_PASSWORD: PASSWORD,
      POSTGRES_INITDB_ARGS: '--no-sync',
      ...(environment as object | undefined),
    },
    labels: { 'lifeboat.postgres': 'true' },
    // Uses the program itself, because the one on the path is a wrapper in Perl. Alpine has no such directory.
    healthcheck: healthcheck('PATH=/usr/lib/postgresql/$$PG_MAJOR/bin:$$PATH pg_isready -q -h 127.0.0.1 -U postgres'),
    stop_grace_period: '5s',
    ...rest,
  };
}

/** A service that only holds volumes. */
export function holder(volumes: string[], labels: Record<string, string>, extra: Record<string, unknown> = {}): object {
  return {
    image: 'node:24-trixie-slim',
    command: ['sleep', '86400'],
    init: true,
    stop_grace_period: '2s',
    volumes,
    labels,
    ...extra,
  };
}
