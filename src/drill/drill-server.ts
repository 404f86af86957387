import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Engine } from '../docker/engine.ts';
import { execText } from '../docker/exec.ts';
import type { Helper, HelperLimits } from '../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../docker/helper-kinds.ts';
import type { Mount, PostgresSource } from '../plan/model.ts';
import type { DrillImage } from '../report/drill-report.ts';
import { isKilledForMemory, outOfMemory } from '../restore/point/server-programs.ts';
import type { AgentContext } from '../sources/postgres/server/tools.ts';
import { watchDisk } from '../sources/postgres/throwaway/disk-watch.ts';
import { startServer } from '../sources/postgres/throwaway/start-server.ts';
import type { Part } from './context.ts';

const VOLUME = '/lifeboat/drill';
const DIRECTORY = `${VOLUME}/server`;

/** Settings that a restore needs besides those of every throwaway server. */
const SETTINGS = {
  // Files instead of /dev/shm, which is small in a container.
  dynamic_shared_memory_type: 'mmap',
  // A server that the kernel killed for its memory must not start again and go on.
  restart_after_crash: 'off',
  autovacuum: 'off',
  max_wal_size: '4GB',
  'cron.launch_active_jobs': 'off',
};

/** Libraries of shared_preload_libraries, as the snapshot records them. Others would need quoting. */
const LIBRARIES = /^[\w$./, -]+$/;

interface DrillServerOptions {
  agent: AgentContext;
  image: DrillImage;
  limits: HelperLimits;
  part: Part;
  /** name of the superuser */
  user: string;
  /** the port of the source's server, which its applications use */
  port: number;
  /** shared_preload_libraries of the recorded server */
  preload: string | undefined;
}

/** A throwaway server that a drill restores into. It has no network, and a volume of its own. */
export class DrillServer {
  /** the server as a source to restore into */
  readonly source: PostgresSource;
  /** aborts with PG_NO_SPACE before the server fills the disk of the engine */
  readonly full: AbortSignal;
  private readonly helper: Helper;
  private readonly engine: Engine;

  private constructor(engine: Engine, helper: Helper, source: PostgresSource, full: AbortSignal) {
    this.engine = engine;
    this.helper = helper;
    this.source = source;
    this.full = full;
  }

  /**
   * Starts the server. If it does not start with the recorded libraries, starts it without them, and notes that.
   *
   * @throws HELPER_FAILED if the image cannot start a server; ENGINE_*
   */
  static async start(options: DrillServerOptions): Promise<DrillServer> {
    const { agent, part } = options;
    const helper = await startWithLibraries(options);
    try {
      const { mounts } = await agent.engine.inspectContainer(helper.id, { signal: part.signal });
      const mount = mounts.find(({ destination }) => destination === VOLUME);
      const hint = 'Nothing was changed. Free space on that disk, and run the drill again.';
      const disk = { container: helper.id, directory: VOLUME, hint, signal: part.signal };
      const full = await watchDisk(agent, disk);
      return new DrillServer(agent.engine, helper, sourceOf(options, helper, mount), full);
    } catch (error) {
      await helper.remove();
      throw error;
    }
  }

  /** Returns the error that explains a failed drill better than `error`: the server had too little memory, or disk. */
  async explain(error: unknown): Promise<unknown> {
    if (this.full.aborted) return this.full.reason;
    if (!hasCode(error, 'PG_UNREACHABLE', 'EXEC_FAILED', 'PG_RESTORE_FAILED')) return error;
    return (await this.shortage(error)) ?? error;
  }

  /** Returns the error of a server that had too little memory, or disk; undefined if it had enough. */
  async shortage(cause?: unknown): Promise<LifeboatError | undefined> {
    if (this.full.aborted) return this.full.reason as LifeboatError;
    return (await isKilledForMemory(this.engine, this.helper.id)) ? outOfMemory(cause) : undefined;
  }

  /** Never rejects. */
  async remove(): Promise<void> {
    await this.helper.remove();
  }
}

async function startWithLibraries(options: DrillServerOptions): Promise<Helper> {
  const { preload, part } = options;
  const libraries = preload?.replaceAll(/["\s]/g, '') ?? '';
  if (libraries === '' || !LIBRARIES.test(libraries)) return start(options, {});
  try {
    return await start(options, { shared_preload_libraries: libraries });
  } catch (error) {
    if (!hasCode(error, 'HELPER_FAILED')) throw error;
    const helper = await start(options, {});
    part.result.notes.push(
      `the server of the drill does not start with shared_preload_libraries = ${libraries}, so it runs without: ${errorInfo(error).cause ?? ''}`,
    );
    return helper;
  }
}

async function start(
  { agent, image, limits, part, user, port }: DrillServerOptions,
  more: Record<string, string>,
): Promise<Helper> {
  const volume: Mount = { type: 'volume', source: '', destination: VOLUME, writable: true };
  const kind = { ...kindSpec(HELPER_KINDS.drill, { data: [{ mount: volume, target: VOLUME }] }), ...limits };
  const { id, journal } = part.context;
  return startServer({
    ...{ agent, image: image.id, user, kind, directory: DIRECTORY, settings: { ...SETTINGS, port, ...more } },
    ...{ runId: id, recordHelper: (name: string) => journal.record({ type: 'helper', name }) },
    // A new volume belongs to root, and the server runs as another user.
    prepare: async (helper) =>
      void (await execText(agent.engine, helper.id, { argv: ['chmod', '1777', VOLUME], signal: part.signal })),
    ...{ log: part.log, signal: part.signal },
  }).catch((error: unknown) => {
    if (!hasCode(error, 'EXEC_FAILED')) throw error;
    throw new LifeboatError('HELPER_FAILED', `no server could be started from the image ${image.digest ?? image.id}`, {
      cause: error,
    });
  });
}

function sourceOf(
  { agent, image, part, user, port }: DrillServerOptions,
  helper: Helper,
  mount?: Mount,
): PostgresSource {
  return {
    kind: 'postgres',
    ...{ name: part.source, project: agent.project, service: 'drill', schedule: '', keep: {} },
    ...{ imageId: image.id, user, database: 'postgres', port },
    ...{ containerId: helper.id, containerName: `the server of the drill of ${part.source}` },
    ...{ dataDirectories: [`${DIRECTORY}/data`], mounts: mount ? [mount] : [] },
    ...{ excludeDatabases: [], excludeTableData: [] },
  };
}
