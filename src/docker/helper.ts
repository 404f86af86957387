import { randomBytes } from 'node:crypto';
import { hasCode, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Mount } from '../plan/model.ts';
import { interruption } from './bounds.ts';
import type { Engine } from './engine.ts';
import { engineStatusOf } from './engine-errors.ts';
import { AGENT_LABEL, PROJECT_LABEL, RUN_LABEL } from './helper-labels.ts';
import { removeContainer } from './remove-helper.ts';

/** A volume or host directory to mount in a helper. */
export interface HelperMount {
  type: string;
  /** volume name, or path on the host */
  source: string;
  target: string;
  readOnly: boolean;
}

/** Returns the mount that shows the volume or directory of `mount` at `target` in a helper. */
export function helperMount(mount: Mount, target: string, writable: boolean): HelperMount {
  const source = mount.type === 'volume' ? (mount.name ?? mount.source) : mount.source;
  return { type: mount.type, source, target, readOnly: !writable };
}

/**
 * The configuration of a helper. Never put a secret in a command line or in `env`: everybody with access to the Docker
 * socket can read them.
 */
export interface HelperSpec {
  /** one word, part of the container name: `postgres`, `volume` */
  purpose: string;
  runId: string;
  project: string;
  /** id of the agent's own container */
  agent: string;
  /** image id or name; must exist already, because Lifeboat pulls nothing */
  image: string;
  /** default `none`; `container:<id>` shares that container's network */
  networkMode?: string;
  /** the whole command line; default: an idle process, for helpers that run commands with exec */
  cmd?: readonly string[];
  env?: Record<string, string>;
  user?: string;
  workdir?: string;
  mounts?: readonly HelperMount[];
  /** path → options, e.g. `size=64m,mode=0700` */
  tmpfs?: Readonly<Record<string, string>>;
  /** default `['ALL']` */
  capDrop?: readonly string[];
  capAdd?: readonly string[];
  /** bytes; default is the engine's 64 MiB */
  shmSize?: number;
  /** bytes; default: no limit */
  memory?: number;
  /** number of processes and threads; default: no limit */
  pids?: number;
  /** processors that it may use at the same time, such as 1.5; default: no limit */
  cpus?: number | undefined;
  labels?: Record<string, string>;
}

/** The limits of a helper. */
export type HelperLimits = Pick<HelperSpec, 'cpus' | 'memory' | 'pids'>;

/** Options for creating a helper, in addition to its configuration. */
export interface HelperContext {
  engine: Engine;
  /** Records the name durably before the container exists, so that a crash leaves nothing unknown behind. */
  recordBefore: (name: string) => Promise<void>;
  log: Log;
  signal?: AbortSignal | undefined;
}

export interface Helper {
  id: string;
  name: string;
  /**
   * Kills and removes the helper with its anonymous volumes, and waits until it is gone. Never rejects: a failure is
   * logged, and `reapHelpers` removes the helper later. `hasHelpers` returns whether a helper may still be writing.
   */
  remove(): Promise<void>;
}

// Engines on which the weight for block I/O prevented a helper from starting.
const withoutBlkio = new WeakSet<Engine>();

/**
 * Creates and starts a helper. If it fails, nothing remains of the helper. @throws HELPER_FAILED, or the engine's error
 */
export async function startHelper(context: HelperContext, spec: HelperSpec): Promise<Helper> {
  const helper = await createHelper(context, spec, { attached: false });
  try {
    await startCreated(context, helper, spec);
    return helper;
  } catch (error) {
    await helper.remove();
    if (refusesBlkio(context.engine, error)) return startHelper(context, spec);
    throw helperFailed(spec, 'could not be started', error);
  }
}

/** Creates a helper without starting it. `attached`: with an open stdin; attach to the helper before starting it. */
export async function createHelper(
  { engine, recordBefore, log, signal }: HelperContext,
  spec: HelperSpec,
  { attached }: { attached: boolean },
): Promise<Helper> {
  const name = helperName(spec);
  const image = await engine.inspectImage(spec.image, { signal }).catch((error: unknown) => {
    throw helperFailed(spec, `has no image ${spec.image}`, error);
  });
  await recordBefore(name);
  // Removes by name, because the response with the id can be lost after the container was created.
  const remove = async () => void (await removeContainer(engine, name, name, log));
  try {
    const body = createBody(spec, image.labels, { attached, blkio: !withoutBlkio.has(engine) });
    // Has no signal: an engine whose response is not awaited creates the container anyway, after its removal.
    const { id, warnings } = await engine.createContainer(name, body);
    if (signal?.aborted) throw interruption(signal);
    for (const warning of warnings) log.debug('the engine warned about a helper', { name, warning });
    return { id, name, remove };
  } catch (error) {
    await remove();
    throw helperFailed(spec, 'could not be created', error);
  }
}

/**
 * Starts a created helper, unless it needs the network of a container that is not running. Docker refuses that by
 * itself. Podman first starts that container, although a restore may have stopped it.
 *
 * @throws HELPER_FAILED, or the engine's error
 */
export async function startCreated(
  { engine, signal }: HelperContext,
  { id }: Pick<Helper, 'id'>,
  { networkMode = '', purpose }: HelperSpec,
): Promise<void> {
  const owner = networkMode.match(/^container:(.+)$/)?.[1];
  if (owner !== undefined && !(await engine.inspectContainer(owner, { signal })).running) {
    const why = `container ${owner.slice(0, 12)}, whose network it needs, is not running`;
    throw new LifeboatError('HELPER_FAILED', `helper "${purpose}" could not be started: ${why}`);
  }
  await engine.startContainer(id, { signal });
}

/**
 * Turns a refusal of the engine into HELPER_FAILED. Returns other errors unchanged: an unreachable engine, or an
 * aborted run.
 */
export function helperFailed(spec: HelperSpec, what: string, cause: unknown): unknown {
  if (!hasCode(cause, 'ENGINE_REFUSED')) return cause;
  const hint =
    engineStatusOf(cause) === 403 ? 'Allow create, start, attach and remove in the Docker socket proxy.' : cause.hint;
  return new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" ${what}: ${cause.message}`, {
    cause,
    ...(hint ? { hint } : {}),
  });
}

/**
 * Returns true the first time that an engine refuses a helper for its block I/O weight. Later helpers do without it.
 */
export function refusesBlkio(engine: Engine, error: unknown): boolean {
  if (
    withoutBlkio.has(engine) ||
    engineStatusOf(error) === undefined ||
    !/blkio|io\.weight|io\.bfq/i.test(String(error))
  ) {
    return false;
  }
  withoutBlkio.add(engine);
  return true;
}

/** The time for which a quota of processor time counts, microseconds: the kernel's default. */
const CPU_PERIOD_US = 100_000;

/** Ends at once on SIGTERM, and by itself after two days in case nobody removes it. */
const IDLE = ['/bin/sh', '-c', 'sleep 172800 & wait'];

/** `lifeboat-<project>-<purpose>-<random>` */
function helperName({ project, purpose }: HelperSpec): string {
  const safe = (part: string) => part.replace(/[^A-Za-z0-9_.-]/g, '-');
  return `lifeboat-${safe(project)}-${safe(purpose)}-${randomBytes(4).toString('hex')}`;
}

/**
 * Returns the body of POST /containers/create.
 *
 * @param imageLabels the labels of the image, which a container inherits
 * @param options `attached`: with an open stdin; `blkio`: with a low weight for block I/O, which some kernels do not
 * support
 */
export function createBody(
  spec: HelperSpec,
  imageLabels: Record<string, string>,
  { attached, blkio }: { attached: boolean; blkio: boolean },
): object {
  const main = spec.cmd ?? IDLE;
  return {
    Image: spec.image,
    // Sets both, so that the entrypoint of the image does not run.
    Entrypoint: main.slice(0, 1),
    Cmd: main.slice(1),
    Env: Object.entries(spec.env ?? {}).map(([key, value]) => `${key}=${value}`),
    ...(spec.user ? { User: spec.user } : {}),
    ...(spec.workdir ? { WorkingDir: spec.workdir } : {}),
    Labels: labels(spec, imageLabels),
    // The image's own are meant for the service that it was built for.
    Healthcheck: { Test: ['NONE'] },
    StopSignal: 'SIGTERM',
    ...(attached
      ? { OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true }
      : {}),
    HostConfig: {
      NetworkMode: spec.networkMode ?? 'none',
      Init: true,
      SecurityOpt: ['no-new-privileges'],
      CapDrop: spec.capDrop ?? ['ALL'],
      CapAdd: spec.capAdd ?? [],
      // A quarter and a fifth of the defaults: the user's services come first.
      CpuShares: 256,
      ...(blkio ? { BlkioWeight: 100 } : {}),
      ...(spec.shmSize === undefined ? {} : { ShmSize: spec.shmSize }),
      ...(spec.memory === undefined ? {} : { Memory: spec.memory }),
      ...(spec.pids === undefined ? {} : { PidsLimit: spec.pids }),
      // The engine refuses `NanoCpus` above its number of processors, and takes any quota.
      ...(spec.cpus === undefined ? {} : { CpuPeriod: CPU_PERIOD_US, CpuQuota: Math.round(spec.cpus * CPU_PERIOD_US) }),
      // Attached and idle helpers log nothing. Other logs stay small, and stay out of the user's log shipping.
      LogConfig:
        attached || !spec.cmd
          ? { Type: 'none', Config: {} }
          : { Type: 'local', Config: { 'max-size': '1m', 'max-file': '1' } },
      Mounts: (spec.mounts ?? []).map((m) => ({
        Type: m.type,
        Source: m.source,
        Target: m.target,
        ReadOnly: m.readOnly,
      })),
      Tmpfs: spec.tmpfs ?? {},
    },
  };
}

function labels(spec: HelperSpec, imageLabels: Record<string, string>): Record<string, string> {
  // Inherited labels cannot be removed, so they become empty.
  const inherited = Object.keys(imageLabels).filter((key) => /^(com\.docker\.compose|lifeboat)\b/.test(key));
  const own = { [RUN_LABEL]: spec.runId, [PROJECT_LABEL]: spec.project, [AGENT_LABEL]: spec.agent };
  return { ...Object.fromEntries(inherited.map((key) => [key, ''])), ...spec.labels, ...own };
}
