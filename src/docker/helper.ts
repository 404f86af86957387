import { randomBytes } from 'node:crypto';
import { errorInfo, LifeboatError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Engine } from './engine.ts';
import { isNotFound, statusOf } from './transport.ts';

/** Label of every helper: the run it belongs to. Not under `lifeboat.`, so that no helper looks like a user's container. */
export const RUN_LABEL = 'dev.lifeboat.run';
/** Label of every helper: the Compose project it works for. */
export const PROJECT_LABEL = 'dev.lifeboat.project';

/** A volume or directory of the host, as the helper sees it. */
export interface HelperMount {
  type: 'volume' | 'bind';
  /** volume name, or path on the host */
  source: string;
  target: string;
  readOnly: boolean;
}

/** What a helper is to be. Never put a secret in `cmd` or `env`: everybody with the Docker socket can read them. */
export interface HelperSpec {
  /** one word, part of the name: `dump`, `walk` */
  purpose: string;
  runId: string;
  project: string;
  /** image id or name; must be present, nothing is pulled */
  image: string;
  /** default `none`; `container:<id>` shares that container's network */
  networkMode?: string;
  /** default: an idle process, for helpers that are worked with by exec */
  cmd?: readonly string[];
  env?: Record<string, string>;
  user?: string;
  workdir?: string;
  mounts?: readonly HelperMount[];
  /** container ids, each with `:ro` or `:rw` */
  volumesFrom?: readonly string[];
  /** path → options, e.g. `size=64m,mode=0700` */
  tmpfs?: Record<string, string>;
  /** default `['ALL']` */
  capDrop?: readonly string[];
  capAdd?: readonly string[];
  /** bytes, default 64 MiB as the engine's */
  shmSize?: number;
  labels?: Record<string, string>;
}

/** What starting a helper needs besides what it is to be. */
export interface HelperContext {
  engine: Engine;
  /** Writes the name down durably, before the container exists, so that a crash leaves nothing unknown behind. */
  recordBefore: (name: string) => Promise<void>;
  log: Log;
  signal?: AbortSignal | undefined;
}

export interface Helper {
  id: string;
  name: string;
  /** Kills and removes it with its anonymous volumes. Resolves also when it is gone already; never throws. */
  remove(): Promise<void>;
}

/** Ends at once on SIGTERM, and by itself after two days should nobody be left to remove it. */
const IDLE = ['/bin/sh', '-c', 'sleep 172800 & wait'];

// Engines on which a weight for block I/O kept a helper from starting.
const withoutBlkio = new WeakSet<Engine>();

/** Creates and starts a helper. Throws HELPER_FAILED; then nothing is left of it. */
export async function startHelper(context: HelperContext, spec: HelperSpec): Promise<Helper> {
  const helper = await createHelper(context, spec, { attached: false });
  try {
    await context.engine.startContainer(helper.id, { signal: context.signal });
    return helper;
  } catch (error) {
    await helper.remove();
    if (blamesBlkio(error) && !withoutBlkio.has(context.engine)) {
      withoutBlkio.add(context.engine);
      return startHelper(context, spec);
    }
    throw helperFailed(spec, 'could not be started', error);
  }
}

/** Creates a helper without starting it. `attached`: with an input, for {@link runHelper}. */
export async function createHelper(
  { engine, recordBefore, log, signal }: HelperContext,
  spec: HelperSpec,
  { attached }: { attached: boolean },
): Promise<Helper> {
  const name = helperName(spec);
  const inherited = (
    await engine.inspectImage(spec.image, { signal }).catch((error: unknown) => {
      throw helperFailed(spec, `has no image ${spec.image}`, error);
    })
  ).labels;
  await recordBefore(name);
  const remove = () => removeQuietly(engine, name, log);
  try {
    const body = createBody(spec, inherited, attached, !withoutBlkio.has(engine));
    const { id, warnings } = await engine.createContainer(name, body, { signal });
    for (const warning of warnings) log.debug('engine warned of a helper', { name, warning });
    return { id, name, remove };
  } catch (error) {
    // The answer may have been lost after the container was made.
    await remove();
    throw helperFailed(spec, 'could not be created', error);
  }
}

/** The error for a helper that did not do its work; what was asked to stop stays that. */
export function helperFailed(spec: HelperSpec, what: string, cause: unknown): LifeboatError {
  if (cause instanceof LifeboatError && cause.code !== 'ENGINE_REFUSED') return cause;
  const hint =
    statusOf(cause) === 403 ? 'Allow container create, start and remove in the proxy of the Docker socket.' : undefined;
  return new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" ${what}: ${errorInfo(cause).message}`, {
    cause,
    ...(hint ? { hint } : {}),
  });
}

function blamesBlkio(error: unknown): boolean {
  return statusOf(error) !== undefined && /blkio|io\.weight|io\.bfq/i.test(String(error));
}

function helperName({ project, purpose }: HelperSpec): string {
  const safe = (part: string) => part.replace(/[^A-Za-z0-9_.-]/g, '-');
  return `lifeboat-${safe(project)}-${safe(purpose)}-${randomBytes(4).toString('hex')}`;
}

/** The body of POST /containers/create. Exported for its test. */
export function createBody(
  spec: HelperSpec,
  imageLabels: Record<string, string>,
  attached: boolean,
  blkio: boolean,
): object {
  // A container inherits its image's labels; they cannot be taken away, but made to say nothing.
  const theirs = Object.keys(imageLabels).filter((key) => /^(com\.docker\.compose|lifeboat)\b/.test(key));
  const main = spec.cmd ?? IDLE;
  return {
    Image: spec.image,
    Entrypoint: main.slice(0, 1),
    Cmd: main.slice(1),
    Env: Object.entries(spec.env ?? {}).map(([key, value]) => `${key}=${value}`),
    ...(spec.user ? { User: spec.user } : {}),
    ...(spec.workdir ? { WorkingDir: spec.workdir } : {}),
    Labels: {
      ...Object.fromEntries(theirs.map((key) => [key, ''])),
      ...spec.labels,
      [RUN_LABEL]: spec.runId,
      [PROJECT_LABEL]: spec.project,
    },
    // Of the image's, which mean the service it was built for.
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
      CpuShares: 256,
      ...(blkio ? { BlkioWeight: 100 } : {}),
      ...(spec.shmSize === undefined ? {} : { ShmSize: spec.shmSize }),
      // What is attached or idle has nothing to log; the rest stays small and out of the user's log shipping.
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
      VolumesFrom: spec.volumesFrom ?? [],
      Tmpfs: spec.tmpfs ?? {},
    },
  };
}

/** Removal is not given up when the run is: it has no signal, only the engine's own bound in time. */
async function removeQuietly(engine: Engine, name: string, log: Log): Promise<void> {
  try {
    await engine.removeContainer(name, { force: true, volumes: true });
  } catch (error) {
    // 409: its removal is under way already.
    if (isNotFound(error) || statusOf(error) === 409) return;
    log.warn('a helper could not be removed and is left for the next clean-up', { name, ...errorInfo(error) });
  }
}

/**
 * Removes the helpers of a project that belong to none of `keepRunIds`, running or not, with their anonymous volumes.
 * Touches only containers that carry both of our labels with exactly this project. Returns the names of those removed.
 */
export async function reapHelpers(
  engine: Engine,
  project: string,
  keepRunIds: readonly string[],
  log: Log,
): Promise<string[]> {
  const found = await engine.listContainers({ labels: [RUN_LABEL, `${PROJECT_LABEL}=${project}`] });
  const ours = found.filter(({ labels }) => {
    const run = labels[RUN_LABEL];
    return run !== undefined && labels[PROJECT_LABEL] === project && !keepRunIds.includes(run);
  });
  await Promise.all(ours.map(({ id }) => removeQuietly(engine, id, log)));
  return ours.map(({ name }) => name);
}
