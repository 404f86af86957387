import type { Duplex, Readable } from 'node:stream';
import { LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import * as answers from './answers.ts';
import { checked } from './answers.ts';
import { LineBuffer } from './lines.ts';
import { createTransport, type EngineRequest, type Transport } from './transport.ts';

/** Every call can be given up by its signal. */
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

/** A command to start in a container. */
export interface ExecSpec {
  argv: readonly string[];
  /** never secrets: everybody with the Docker socket can read them */
  /** undefined takes a variable of the container away */
  env?: Readonly<Record<string, string | undefined>>;
  user?: string;
  workdir?: string;
  stdin?: boolean;
}

/**
 * The calls of the Docker Engine API that are used, and no others: docs list them for socket proxies. Works with API
 * 1.41 (Docker 20.10) and later; no version is named in requests, so the engine's own applies. Every failure is a
 * LifeboatError: ENGINE_UNREACHABLE, ENGINE_REFUSED (see `isNotFound`), ENGINE_PROTOCOL, or what an aborted signal
 * stands for. Plain calls end within a minute.
 */
export interface Engine {
  /** How long, in ms, the engine may take to record an end after the stream's end; longer means the stream was cut. */
  readonly exitLagMs: number;
  ping(options?: CallOptions): Promise<void>;
  /**
   * Container events from now, or from `since`, until the signal aborts, the connection ends, or the engine's clock is at
   * `until` (both in seconds since the epoch). The engine remembers its last 256 events, those of health checks included.
   */
  events(options: EventsOptions): Promise<AsyncIterable<answers.EngineEvent>>;
  /** All containers, also stopped ones, that carry every one of `labels` (`key` or `key=value`). */
  listContainers(options?: CallOptions & { labels?: readonly string[] }): Promise<answers.ContainerSummary[]>;
  inspectContainer(id: string, options?: CallOptions): Promise<answers.ContainerDetails>;
  inspectImage(id: string, options?: CallOptions): Promise<answers.ImageDetails>;
  /** A file or directory of a container, with what is mounted there, as a tar archive. */
  archive(id: string, path: string, options?: CallOptions): Promise<Readable>;
  /** `spec` is the body that the API documents for POST /containers/create. */
  createContainer(name: string, spec: object, options?: CallOptions): Promise<{ id: string; warnings: string[] }>;
  /** Resolves also when it runs already. */
  startContainer(id: string, options?: CallOptions): Promise<void>;
  /** Asks it to stop, kills it after `timeout` seconds. Resolves also when it is stopped already. */
  stopContainer(id: string, options: CallOptions & { timeout: number }): Promise<void>;
  /** Resolves when it does not run (any more). Unbounded in time. */
  waitContainer(id: string, options?: CallOptions): Promise<{ exitCode: number; error?: string }>;
  /** `volumes`: its anonymous volumes too. */
  removeContainer(id: string, options?: CallOptions & { force?: boolean; volumes?: boolean }): Promise<void>;
  /** The multiplexed streams of its main process, from now; stdin with `stdin`. To be called before it is started. */
  attach(id: string, options: CallOptions & { stdin: boolean }): Promise<Duplex>;
  /** Returns the id of the exec. */
  execCreate(id: string, spec: ExecSpec, options?: CallOptions): Promise<string>;
  /** The multiplexed streams of the exec. `end()` closes its stdin. Aborting does not end the command. */
  execStart(execId: string, options?: CallOptions): Promise<Duplex>;
  execInspect(execId: string, options?: CallOptions): Promise<answers.ExecState>;
}

const PLAIN_MS = 60_000;
/** Longer than a machine stands still when it swaps or is moved: a helper that ended well must not count as cut off. */
const EXIT_LAG_MS = 30_000;

/**
 * An engine at `dockerHost` (`unix://` or `tcp://`), else at DOCKER_HOST, else at the usual socket. DOCKER_TLS_VERIFY and
 * DOCKER_CERT_PATH apply to tcp. `plainMs` bounds plain calls, in milliseconds; for
 * `exitLagMs` see {@link Engine}. Connects only when called.
 */
export function createEngine(options: { dockerHost?: string; log: Log; plainMs?: number; exitLagMs?: number }): Engine {
  const transport = createTransport(options.dockerHost ?? process.env.DOCKER_HOST, process.env);
  return {
    exitLagMs: options.exitLagMs ?? EXIT_LAG_MS,
    ...callsOver(transport, options.log, options.plainMs ?? PLAIN_MS),
  };
}

function callsOver(transport: Transport, log: Log, plainMs: number): Omit<Engine, 'exitLagMs'> {
  const call = (
    method: EngineRequest['method'],
    path: string,
    rest: Omit<EngineRequest, 'method' | 'path'> & { timeoutMs?: number | undefined } = {},
  ) => {
    log.debug('engine call', { method, path });
    return transport.json({ timeoutMs: plainMs, ...rest, method, path });
  };
  const open = (path: string, rest: Omit<EngineRequest, 'method' | 'path'>): EngineRequest => {
    log.debug('engine stream', { path });
    return { timeoutMs: plainMs, ...rest, method: 'POST', path };
  };
  const at = (id: string, rest = '') => `/containers/${encodeURIComponent(id)}${rest}`;
  return {
    async ping(o = {}) {
      await call('GET', '/_ping', { signal: o.signal });
    },
    async events({ since, until, actions, labels, containers, signal }) {
      const only = { ...(labels ? { label: labels } : {}), ...(containers ? { container: containers } : {}) };
      const query: Record<string, string> = {
        filters: JSON.stringify({ type: ['container'], event: actions, ...only }),
      };
      if (since !== undefined) query.since = since.toFixed(9);
      if (until !== undefined) query.until = until.toFixed(9);
      return eventsOf(await transport.stream({ ...open('/events', { query, signal }), method: 'GET' }));
    },
    async listContainers({ labels = [], signal } = {}) {
      const query = { all: '1', filters: JSON.stringify(labels.length > 0 ? { label: labels } : {}) };
      return checked(answers.summaries, await call('GET', '/containers/json', { query, signal }), 'container list');
    },
    async inspectContainer(id, o = {}) {
      return checked(answers.container, await call('GET', at(id, '/json'), { signal: o.signal }), 'container');
    },
    async inspectImage(id, o = {}) {
      // Names hold slashes, which the API wants as they are.
      const path = `/images/${id.split('/').map(encodeURIComponent).join('/')}/json`;
      return checked(answers.image, await call('GET', path, { signal: o.signal }), 'image');
    },
    async archive(id, path, o = {}) {
      return transport.stream({ ...open(at(id, '/archive'), { query: { path }, signal: o.signal }), method: 'GET' });
    },
    async createContainer(name, body, o = {}) {
      const answer = await call('POST', '/containers/create', { query: { name }, body, signal: o.signal });
      return checked(answers.created, answer, 'created container');
    },
    async startContainer(id, o = {}) {
      await call('POST', at(id, '/start'), { signal: o.signal });
    },
    async stopContainer(id, { timeout, signal }) {
      const timeoutMs = timeout * 1000 + plainMs / 2;
      await call('POST', at(id, '/stop'), { query: { t: String(timeout) }, signal, timeoutMs });
    },
    async waitContainer(id, o = {}) {
      const answer = await call('POST', at(id, '/wait'), { signal: o.signal, timeoutMs: undefined });
      const result = checked(answers.waited, answer, 'wait result');
      const error = result.Error?.Message;
      return error ? { exitCode: result.StatusCode, error } : { exitCode: result.StatusCode };
    },
    async removeContainer(id, { force = false, volumes = false, signal } = {}) {
      await call('DELETE', at(id), { query: { force: force ? '1' : '0', v: volumes ? '1' : '0' }, signal });
    },
    async attach(id, { stdin, signal }) {
      const query = { stream: '1', stdin: stdin ? '1' : '0', stdout: '1', stderr: '1' };
      return transport.hijack(open(at(id, '/attach'), { query, signal }));
    },
    async execCreate(id, spec, o = {}) {
      const body = execBody(spec);
      return checked(answers.execCreated, await call('POST', at(id, '/exec'), { body, signal: o.signal }), 'exec').Id;
    },
    async execStart(execId, o = {}) {
      const path = `/exec/${encodeURIComponent(execId)}/start`;
      return transport.hijack(open(path, { body: { Detach: false, Tty: false }, signal: o.signal }));
    },
    async execInspect(execId, o = {}) {
      const path = `/exec/${encodeURIComponent(execId)}/json`;
      return checked(answers.execState, await call('GET', path, { signal: o.signal }), 'exec state');
    },
  };
}

function execBody(spec: ExecSpec): object {
  return {
    Cmd: spec.argv,
    AttachStdin: spec.stdin ?? false,
    AttachStdout: true,
    AttachStderr: true,
    Tty: false,
    ...(spec.env ? { Env: Object.entries(spec.env).map(envEntry) } : {}),
    ...(spec.user ? { User: spec.user } : {}),
    ...(spec.workdir ? { WorkingDir: spec.workdir } : {}),
  };
}

/** The engine writes one JSON document after the other, each on its own line. */
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

/** A name without a value takes the variable away (moby, ReplaceOrAppendEnvVars). */
function envEntry([name, value]: [string, string | undefined]): string {
  return value === undefined ? name : `${name}=${value}`;
}
