import type { Duplex, Readable } from 'node:stream';
import type Docker from 'dockerode';
import type { ExecCreateOptions } from 'dockerode';
import { LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import * as answers from './answers.ts';
import { checked } from './answers.ts';
import type { Bounds } from './bounds.ts';
import { type BoundedDocker, createBoundedDocker } from './dockerode.ts';
import { LineBuffer } from './lines.ts';

/** Options of every call: the signal aborts it. */
export interface CallOptions {
  signal?: AbortSignal | undefined;
}

export interface EventsOptions extends CallOptions {
  since?: number;
  until?: number;
  actions: readonly string[];
  /** label filters as `key=value`; all must match */
  labels?: readonly string[];
  /** ids; default: every container */
  containers?: readonly string[];
}

/** A command to run in a container. */
export interface ExecSpec {
  argv: readonly string[];
  /** Never put secrets here: everybody with access to the Docker socket can read them. */
  env?: Readonly<Record<string, string>>;
  user?: string;
  workdir?: string;
  stdin?: boolean;
}

/**
 * The calls of the Docker Engine API that Lifeboat uses, and no others: docs/security.md lists them for socket proxies.
 * Works with API 1.41 (Docker 20.10) and later. Requests name no version, so the engine uses its own. Every failure is
 * a LifeboatError: ENGINE_UNREACHABLE, ENGINE_REFUSED (see `isNotFound`), ENGINE_PROTOCOL, or the reason of the aborted
 * signal. Plain calls end within a minute.
 */
export interface Engine {
  /**
   * The most time that the engine gets to record an exit after the stream has ended, milliseconds. If it takes longer,
   * the stream was cut.
   */
  readonly exitLagMs: number;
  ping(options?: CallOptions): Promise<void>;
  /**
   * Streams container events from now, or from `since`, until the signal aborts, the connection ends, or the engine's
   * clock reaches `until` (both in seconds since the epoch). The engine remembers its last 256 events, including those
   * of health checks.
   */
  events(options: EventsOptions): Promise<AsyncIterable<answers.EngineEvent>>;
  /** Lists all containers, including stopped ones, that have every one of `labels` (`key` or `key=value`). */
  listContainers(options?: CallOptions & { labels?: readonly string[] }): Promise<answers.ContainerSummary[]>;
  inspectContainer(id: string, options?: CallOptions): Promise<answers.ContainerDetails>;
  inspectImage(id: string, options?: CallOptions): Promise<answers.ImageDetails>;
  inspectVolume(name: string, options?: CallOptions): Promise<answers.VolumeDetails>;
  /** Reads a service of a Swarm. Only a manager of the Swarm answers. */
  inspectService(id: string, options?: CallOptions): Promise<{ labels: Record<string, string> }>;
  /** Reads a file or directory of a container, including mounts, as a tar archive. */
  archive(id: string, path: string, options?: CallOptions): Promise<Readable>;
  /** `spec` is the request body that the API documents for POST /containers/create. */
  createContainer(name: string, spec: object, options?: CallOptions): Promise<{ id: string; warnings: string[] }>;
  /** Also resolves if the container is running already. */
  startContainer(id: string, options?: CallOptions): Promise<void>;
  /** Stops a container, and kills it after `timeout` seconds. Also resolves if it is stopped already. */
  stopContainer(id: string, options: CallOptions & { timeout: number }): Promise<void>;
  /** Resolves when the container is not running. Has no time limit. */
  waitContainer(id: string, options?: CallOptions): Promise<{ exitCode: number; error?: string }>;
  /** `volumes`: also removes the anonymous volumes of the container. */
  removeContainer(id: string, options?: CallOptions & { force?: boolean; volumes?: boolean }): Promise<void>;
  /**
   * Opens the multiplexed streams of the main process, from now on; with `stdin`, also its input. Call it before the
   * start.
   */
  attach(id: string, options: CallOptions & { stdin: boolean }): Promise<Duplex>;
  /** Returns the id of the exec. */
  execCreate(id: string, spec: ExecSpec, options?: CallOptions): Promise<string>;
  /** Opens the multiplexed streams of the exec. `end()` closes its stdin. Aborting does not end the command. */
  execStart(execId: string, options?: CallOptions): Promise<Duplex>;
  execInspect(execId: string, options?: CallOptions): Promise<answers.ExecState>;
}

const PLAIN_MS = 60_000;
/** Longer than a machine stalls while it swaps or migrates: a helper that succeeded must not count as cut off. */
const EXIT_LAG_MS = 30_000;

/**
 * Creates a client of the engine at `dockerHost` (`unix://` or `tcp://`), else at DOCKER_HOST, else at the default
 * socket. DOCKER_TLS_VERIFY and DOCKER_CERT_PATH apply to tcp. Connects only when a call is made.
 *
 * @param options `plainMs`: time limit of plain calls, milliseconds; `exitLagMs`: see {@link Engine}
 */
export function createEngine(options: { dockerHost?: string; log: Log; plainMs?: number; exitLagMs?: number }): Engine {
  const bounded = createBoundedDocker(options.dockerHost ?? process.env.DOCKER_HOST, process.env, options.log);
  const caller = createCaller(bounded, options.plainMs ?? PLAIN_MS);
  return {
    exitLagMs: options.exitLagMs ?? EXIT_LAG_MS,
    ...containerCalls(caller),
    ...otherCalls(caller),
    ...execCalls(caller),
  };
}

/** Makes dockerode calls with limits. */
interface Caller {
  plainMs: number;
  call<T>(bounds: Bounds, work: (docker: Docker) => Promise<T>): Promise<T>;
  open<T extends Readable>(options: CallOptions, work: (docker: Docker) => Promise<NodeJS.ReadableStream>): Promise<T>;
}

function createCaller(bounded: BoundedDocker, plainMs: number): Caller {
  return {
    plainMs,
    call: (bounds, work) => bounded.call({ timeoutMs: plainMs, ...bounds }, work),
    open: ({ signal }, work) => bounded.open({ signal, timeoutMs: plainMs }, work),
  };
}

// dockerode inserts ids and names into paths without escaping them.
const container = (docker: Docker, id: string) => docker.getContainer(encodeURIComponent(id));
const exec = (docker: Docker, id: string) => docker.getExec(encodeURIComponent(id));

type ExecCalls = Pick<Engine, 'execCreate' | 'execStart' | 'execInspect'>;
type OtherCalls = Pick<Engine, 'inspectImage' | 'inspectVolume' | 'inspectService'>;

function containerCalls({
  call,
  open,
  plainMs,
}: Caller): Omit<Engine, 'exitLagMs' | keyof ExecCalls | keyof OtherCalls> {
  return {
    async ping(o = {}) {
      await call(o, (docker) => docker.ping());
    },
    async events({ since, until, actions, labels, containers, signal }) {
      const filters = {
        type: ['container' as const],
        event: [...actions],
        ...(labels ? { label: [...labels] } : {}),
        ...(containers ? { container: [...containers] } : {}),
      };
      const times = { ...(since === undefined ? {} : { since }), ...(until === undefined ? {} : { until }) };
      return eventsOf(await open({ signal }, (docker) => docker.getEvents({ filters, ...times })));
    },
    async listContainers({ labels = [], signal } = {}) {
      const filters = labels.length > 0 ? { label: [...labels] } : {};
      const answer = await call({ signal }, (docker) => docker.listContainers({ all: true, filters }));
      return checked(answers.summaries, answer, 'container list');
    },
    async inspectContainer(id, o = {}) {
      return checked(answers.container, await call(o, (docker) => container(docker, id).inspect()), 'container');
    },
    async archive(id, path, o = {}) {
      return open(o, (docker) => container(docker, id).getArchive({ path }));
    },
    async createContainer(name, body, o = {}) {
      const answer = await call(o, (docker) => postCreate(docker, name, body));
      return checked(answers.created, answer, 'created container');
    },
    async startContainer(id, o = {}) {
      await call(o, (docker) => container(docker, id).start());
    },
    async stopContainer(id, { timeout, signal }) {
      const timeoutMs = timeout * 1000 + plainMs / 2;
      await call({ signal, timeoutMs }, (docker) => container(docker, id).stop({ t: timeout }));
    },
    async waitContainer(id, { signal } = {}) {
      const answer = await call({ signal, timeoutMs: undefined }, (docker) => container(docker, id).wait());
      const result = checked(answers.waited, answer, 'wait result');
      const error = result.Error?.Message;
      return error ? { exitCode: result.StatusCode, error } : { exitCode: result.StatusCode };
    },
    async removeContainer(id, { force = false, volumes = false, signal } = {}) {
      await call({ signal }, (docker) => container(docker, id).remove({ force: Number(force), v: Number(volumes) }));
    },
    async attach(id, { stdin, signal }) {
      const wanted = { stream: true, stdin, stdout: true, stderr: true, hijack: true };
      return open({ signal }, (docker) => container(docker, id).attach(wanted));
    },
  };
}

function otherCalls({ call }: Caller): OtherCalls {
  return {
    async inspectImage(id, o = {}) {
      // Image names contain slashes, which the API expects unescaped.
      const name = id.split('/').map(encodeURIComponent).join('/');
      return checked(answers.image, await call(o, (docker) => docker.getImage(name).inspect()), 'image');
    },
    async inspectVolume(name, o = {}) {
      const answer = await call(o, (docker) => docker.getVolume(encodeURIComponent(name)).inspect());
      return checked(answers.volume, answer, 'volume');
    },
    async inspectService(id, o = {}) {
      const answer = await call(o, (docker) => docker.getService(encodeURIComponent(id)).inspect());
      return checked(answers.service, answer, 'service');
    },
  };
}

function execCalls({ call, open }: Caller): ExecCalls {
  return {
    async execCreate(id, spec, o = {}) {
      const made = await call(o, (docker) => container(docker, id).exec(execBody(spec)));
      return checked(answers.execCreated, { Id: made.id }, 'exec').Id;
    },
    async execStart(execId, o = {}) {
      return open(o, (docker) => exec(docker, execId).start({ hijack: true, stdin: true, Detach: false, Tty: false }));
    },
    async execInspect(execId, o = {}) {
      return checked(answers.execState, await call(o, (docker) => exec(docker, execId).inspect()), 'exec state');
    },
  };
}

/** Sends POST /containers/create. dockerode's own `createContainer` drops the engine's warnings. */
function postCreate(docker: Docker, name: string, body: object): Promise<unknown> {
  const options = { method: 'POST', path: '/containers/create?', options: { _query: { name }, _body: body } };
  return new Promise((resolve, reject) => {
    docker.modem.dial(options, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

function execBody(spec: ExecSpec): ExecCreateOptions {
  return {
    Cmd: [...spec.argv],
    AttachStdin: spec.stdin ?? false,
    AttachStdout: true,
    AttachStderr: true,
    Tty: false,
    ...(spec.env ? { Env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`) } : {}),
    ...(spec.user ? { User: spec.user } : {}),
    ...(spec.workdir ? { WorkingDir: spec.workdir } : {}),
  };
}

/** Parses the event stream: one JSON document per line. */
async function* eventsOf(stream: Readable): AsyncGenerator<answers.EngineEvent> {
  const lines = new LineBuffer();
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    for (const line of lines.split(chunk)) if (line.trim() !== '') yield eventOf(line);
  }
}

function eventOf(line: string): answers.EngineEvent {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch (cause) {
    throw new LifeboatError('ENGINE_PROTOCOL', 'engine sent an event that is not JSON', { cause });
  }
  return checked(answers.event, parsed, 'event');
}
