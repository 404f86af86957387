import { randomBytes } from 'node:crypto';
import type { Log } from '../log.ts';
import type { Mount } from '../plan/model.ts';

/** Label of every helper: the run it belongs to. Not under `lifeboat.`, so that no helper looks like a user's container. */
export const RUN_LABEL = 'dev.lifeboat.run';
/** Label of every helper: the Compose project it works for. */
export const PROJECT_LABEL = 'dev.lifeboat.project';

/** What a helper is to be. Never put a secret in a command line or `env`: everybody with the Docker socket can read them. */
export interface HelperSpec {
  /** one word, part of the name: `postgres`, `volume` */
  purpose: string;
  runId: string;
  project: string;
  /** image id or name; must be present, nothing is pulled */
  image: string;
  /** default `none`; `container:<id>` shares that container's network */
  networkMode?: string;
  /** default, when `cmd` is absent too: an idle process, for helpers that are worked with by exec */
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  env?: Record<string, string>;
  user?: string;
  workdir?: string;
  /** as a container has them: a named volume's name or a bind's path on the host, and the path in the helper */
  mounts?: readonly Mount[];
  /** container ids, each perhaps with `:ro` */
  volumesFrom?: readonly string[];
  /** path → options, e.g. `size=64m,mode=0700` */
  tmpfs?: Record<string, string>;
  /** default `['ALL']` */
  capDrop?: readonly string[];
  capAdd?: readonly string[];
  /** bytes; default is the engine's 64 MiB */
  shmSize?: number;
  labels?: Record<string, string>;
  /** Writes the name down durably, before the container exists, so that a crash leaves nothing unknown behind. */
  recordBefore: (name: string) => Promise<void>;
  log?: Log;
  signal?: AbortSignal | undefined;
}

/** Ends at once on SIGTERM, and by itself after two days should nobody be left to remove it. */
const IDLE = { entrypoint: ['/bin/sh'], cmd: ['-c', 'sleep 172800 & wait'] };

/** `lifeboat-<project>-<purpose>-<random>` */
export function helperName({ project, purpose }: HelperSpec): string {
  const safe = (part: string) => part.replace(/[^A-Za-z0-9_.-]/g, '-');
  return `lifeboat-${safe(project)}-${safe(purpose)}-${randomBytes(4).toString('hex')}`;
}

/**
 * The body of POST /containers/create. `imageLabels`: those of the image, which a container inherits. `attached`: it gets
 * an input. `blkio`: with a low weight for block I/O, which some kernels do not know.
 */
export function createBody(
  spec: HelperSpec,
  imageLabels: Record<string, string>,
  { attached, blkio }: { attached: boolean; blkio: boolean },
): object {
  const idle = spec.entrypoint === undefined && spec.cmd === undefined;
  const main = idle ? IDLE : spec;
  return {
    Image: spec.image,
    ...(main.entrypoint ? { Entrypoint: main.entrypoint } : {}),
    ...(main.cmd ? { Cmd: main.cmd } : {}),
    Env: Object.entries(spec.env ?? {}).map(([key, value]) => `${key}=${value}`),
    ...(spec.user ? { User: spec.user } : {}),
    ...(spec.workdir ? { WorkingDir: spec.workdir } : {}),
    Labels: labels(spec, imageLabels),
    // The image's are meant for the service it was built for.
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
      // What is attached or idle has nothing to log; the rest stays small and out of the user's log shipping.
      LogConfig:
        attached || idle
          ? { Type: 'none', Config: {} }
          : { Type: 'local', Config: { 'max-size': '1m', 'max-file': '1' } },
      Mounts: (spec.mounts ?? []).map((m) => ({
        Type: m.type,
        Source: m.type === 'volume' ? (m.name ?? m.source) : m.source,
        Target: m.destination,
        ReadOnly: !m.writable,
      })),
      VolumesFrom: spec.volumesFrom ?? [],
      Tmpfs: spec.tmpfs ?? {},
    },
  };
}

function labels(spec: HelperSpec, imageLabels: Record<string, string>): Record<string, string> {
  // Inherited labels cannot be taken away, but made to say nothing.
  const theirs = Object.keys(imageLabels).filter((key) => /^(com\.docker\.compose|lifeboat)\b/.test(key));
  const own = { [RUN_LABEL]: spec.runId, [PROJECT_LABEL]: spec.project };
  return { ...Object.fromEntries(theirs.map((key) => [key, ''])), ...spec.labels, ...own };
}
