import { LifeboatError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { execStream, execText } from '../../docker/exec.ts';
import { HEARTBEAT_S } from '../../docker/heartbeat.ts';
import { type Helper, type HelperLimits, startHelper } from '../../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../../docker/helper-kinds.ts';
import type { PostgresSource } from '../../plan/model.ts';
import { TOOLS } from '../../sources/postgres/server/commands.ts';
import { partOfSpool, readOnlyMount } from '../../sources/postgres/server/helper-mounts.ts';
import type { AgentContext } from '../../sources/postgres/server/tools.ts';
import { watchDisk } from '../../sources/postgres/throwaway/disk-watch.ts';
import type { ManifestSource } from '../../store/objects/manifest.ts';
import type { PointCheck } from './check-recovered.ts';
import { refuseSmallDisk } from './disk-space.ts';
import {
  CONTROL_SCRIPT,
  DATA,
  FETCH_SCRIPT,
  NO_MANIFEST,
  NO_PROGRAM,
  SERVE_SCRIPT,
  SETTINGS,
  START_SCRIPT,
  VERIFY_SCRIPT,
} from './recovery-settings.ts';
import { Messages, type Recovered } from './server-messages.ts';
import { asOptions, identityOf, refuseOtherMajor, superuserOf } from './server-programs.ts';
import { describeTarget, type Target, targetSettings } from './target.ts';
import type { WalExchange } from './wal-server.ts';

interface RecoveringOptions {
  agent: AgentContext;
  image: string;
  runId: string;
  /** name of a volume to make; undefined: one that is removed with the helper */
  volume: string | undefined;
  /** the owner of the data */
  uid: number;
  gid: number;
  exchange: WalExchange;
  /** the size of the base backup */
  content: Pick<ManifestSource, 'bytes' | 'files'>;
  limits?: HelperLimits | undefined;
  /** of the WAL, bytes */
  segmentSize: number;
  recordHelper(name: string): void;
  log: Log;
  signal: AbortSignal;
}

/** Where the recovery ends. */
interface RecoveryTarget {
  /** absent: at the end of the WAL */
  target?: Target;
  /** the end of the WAL does not count as the target */
  mustReach: boolean;
  /** the end of the stored WAL */
  end: string;
  /** Resolves to the position of the last whole record of the stored WAL; undefined if that is unknown. */
  lastRecord(): Promise<bigint | undefined>;
  /** the timeline to follow; absent: that of the base backup */
  timeline?: number;
}

/**
 * Recovers a base backup in a volume, in a server of its own image, without network. Afterwards the volume holds a
 * server that was shut down cleanly, on a timeline of its own.
 */
export class RecoveringServer {
  private readonly options: RecoveringOptions;
  readonly helper: Helper;
  /** name of the volume, which is to hold the base backup */
  readonly volume: string;
  /** resolves when the server that accepts connections has ended */
  private serving: Promise<unknown> | undefined;

  /** aborts with PG_NO_SPACE before the recovery fills the disk of the engine */
  readonly full: AbortSignal;

  private constructor(options: RecoveringOptions, helper: Helper, volume: string, full: AbortSignal) {
    this.volume = volume;
    this.options = { ...options, signal: AbortSignal.any([options.signal, full]) };
    this.helper = helper;
    this.full = full;
  }

  /**
   * Starts the helper, and makes its volume.
   *
   * @throws HELPER_FAILED if the image is not there; TREE_TARGET_FULL if the base backup needs more space; ENGINE_*
   */
  static async start(options: RecoveringOptions): Promise<RecoveringServer> {
    const { agent, image, runId, volume, uid, gid, exchange, content, log, signal } = options;
    const { engine, project, id, spoolMount } = agent;
    const helper = await startHelper(
      { engine, recordBefore: async (name) => options.recordHelper(name), log, signal },
      {
        ...kindSpec(HELPER_KINDS.recovery, {
          data: [{ mount: { type: 'volume', source: volume ?? '', destination: DATA, writable: true }, target: DATA }],
          wal: [{ ...readOnlyMount(spoolMount, exchange.files), target: '/lifeboat/wal' }],
          wanted: [{ mount: partOfSpool(spoolMount, exchange.wanted), target: '/lifeboat/wanted' }],
        }),
        ...{ project, agent: id, runId, image, user: `${uid}:${gid}`, ...options.limits },
      },
    );
    try {
      const { mounts } = await engine.inspectContainer(helper.id, { signal });
      const name = mounts.find(({ destination }) => destination === DATA)?.name;
      if (name === undefined) throw new LifeboatError('HELPER_FAILED', 'the recovery helper has no volume');
      const { stdout } = await execText(engine, helper.id, { argv: ['df', '-Pk', '--', DATA], check: false, signal });
      refuseSmallDisk(stdout, content);
      const hint = 'Nothing in use was changed. Free space on that disk, and try again.';
      const full = await watchDisk(agent, { container: helper.id, directory: DATA, hint, signal });
      return new RecoveringServer(options, helper, name, full);
    } catch (error) {
      await helper.remove();
      throw error;
    }
  }

  /** Refuses an image that cannot read the data of a server, see {@link refuseOtherMajor}. */
  refuseOtherMajor(versionNumber: number): Promise<void> {
    const { agent, signal } = this.options;
    return refuseOtherMajor(agent.engine, this.helper.id, versionNumber, signal);
  }

  /** Returns which server the recovered data is of. The server must not run. @throws PG_RESTORE_FAILED; EXEC_FAILED */
  async identity(): Promise<ReturnType<typeof identityOf>> {
    const { stdout } = await this.exec(['sh', '-c', CONTROL_SCRIPT, DATA]);
    return identityOf(stdout);
  }

  /**
   * Checks the restored base backup against its manifest with `pg_verifybackup`. Call it before the recovery, which
   * changes files. Its WAL is not there yet, and is checked as it is replayed.
   *
   * @throws PG_RESTORE_FAILED with the words of the program if a file is missing, superfluous or different
   */
  async verifyBase(): Promise<PointCheck> {
    const { exitCode, stderr } = await this.exec(['sh', '-c', VERIFY_SCRIPT, DATA], { check: false });
    const name = 'pg_verifybackup';
    if (exitCode === NO_PROGRAM)
      return { name, ok: true, skipped: true, detail: 'not checked: the image does not have the program' };
    // Every base backup is stored with its manifest.
    if (exitCode === NO_MANIFEST) return { name, ok: false, detail: 'the base backup has no manifest' };
    if (exitCode === 0) return { name, ok: true, detail: 'every file is as in the manifest of the base backup' };
    const words = stderr.trim().split('\n').slice(0, 4).join(' · ');
    throw new LifeboatError('PG_RESTORE_FAILED', `pg_verifybackup refuses the restored base backup: ${words}`, {
      hint: 'Recover from an older base backup, with a time before the newest one. Run `lifeboat check --read-data`.',
    });
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
    if (target.target && target.mustReach) {
      throw new LifeboatError('PITR_TIME', `the stored WAL does not have ${describeTarget(target.target)}`, {
        hint: 'Nothing in use was changed. Check its name or number.',
      });
    }
    // The target is inside the window, and nothing was committed between the last transaction and it.
    const { target: _, ...rest } = target;
    const second = await this.attempt(rest, onLine);
    if (second === 'ended early') throw new LifeboatError('PG_RESTORE_FAILED', 'the recovery did not reach its target');
    return second;
  }

  /**
   * Starts the recovered server for connections from its own address, which only containers in its network can make.
   *
   * @returns the server as a source, to use as the superuser
   * @throws PG_RESTORE_FAILED
   */
  async serve(planned: PostgresSource, databases: string[] | undefined): Promise<PostgresSource> {
    const { agent, image, signal } = this.options;
    const user = await superuserOf(agent.engine, this.helper.id, signal);
    const address = { listen_addresses: '127.0.0.1', port: '5432', hot_standby: 'on' };
    const settings = { ...SETTINGS, ...Object.fromEntries(targetSettings(undefined)), ...address };
    const { ready, ended, messages } = await this.begin(SERVE_SCRIPT, settings, () => undefined);
    this.serving = ended;
    if (!(await Promise.race([ready.then(() => true), ended.then(() => false)])))
      throw messages.failure('did not start');
    signal.throwIfAborted();
    const { name, project, service, schedule, keep, excludeTableData } = planned;
    return {
      kind: 'postgres',
      ...{ name, project, service, schedule, keep, user, excludeTableData, imageId: image, port: 5432 },
      ...{ containerId: this.helper.id, containerName: `the recovered server of ${name}`, database: 'postgres' },
      ...{ dataDirectories: [DATA], mounts: [], excludeDatabases: planned.excludeDatabases },
      ...{ project: agent.project },
      ...(databases ? { databases } : {}),
    };
  }

  /** Ends what {@link serve} started, so that the volume holds a server that was shut down cleanly. */
  async stopServing(): Promise<void> {
    await this.shutDown();
    await this.serving;
  }

  /** Never rejects. */
  async remove(): Promise<void> {
    await this.helper.remove();
  }

  private async attempt(
    { target, timeline, end, lastRecord }: RecoveryTarget,
    onLine: (line: string) => void,
  ): Promise<Recovered | 'ended early'> {
    const settings = {
      ...SETTINGS,
      ...Object.fromEntries(targetSettings(target)),
      recovery_target_timeline: timeline === undefined ? 'current' : String(timeline),
    };
    const { ready, ended, messages } = await this.begin(START_SCRIPT, settings, onLine);
    const isReady = await Promise.race([ready.then(() => true), ended.then(() => false)]);
    if (!isReady) return messages.outcome(false);
    await this.shutDown();
    if ((await ended) !== 0) throw messages.failure('did not shut down cleanly');
    const outcome = messages.outcome(true);
    if (outcome !== 'ended early' && outcome.at === 'end')
      messages.refuseShort(await lastRecord(), end, this.options.segmentSize);
    return outcome;
  }

  /** Runs a script that becomes the server. `ended` resolves to its exit status. */
  private async begin(script: string, settings: Readonly<Record<string, string>>, onLine: (line: string) => void) {
    const { agent, signal } = this.options;
    const messages = new Messages(onLine);
    const command = await execStream(agent.engine, this.helper.id, {
      argv: ['sh', '-c', script, DATA, ...asOptions(settings)],
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

  private async shutDown(): Promise<void> {
    await this.exec(['sh', '-c', `${TOOLS}; exec pg_ctl stop --pgdata="$0" --mode=fast --wait --timeout=86400`, DATA]);
  }

  private exec(argv: string[], more: { check?: boolean } = {}): ReturnType<typeof execText> {
    const { agent, signal } = this.options;
    return execText(agent.engine, this.helper.id, { argv, heartbeat: HEARTBEAT_S, signal, ...more });
  }
}
