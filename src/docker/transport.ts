import type { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { type Duplex, PassThrough, pipeline, type Readable } from 'node:stream';
import { LifeboatError } from '../base/errors.ts';
import { connectionOptions } from './docker-host.ts';
import { connectionError, describe, refusal } from './engine-errors.ts';

/** One request to the engine. `timeoutMs` bounds it to its answer's end; absent means unbounded. */
export interface EngineRequest {
  method: 'GET' | 'POST' | 'DELETE';
  /** without query, ids already encoded */
  path: string;
  query?: Record<string, string>;
  body?: object;
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
}

/** Sends requests to an engine. Every failure is a LifeboatError: ENGINE_UNREACHABLE, ENGINE_REFUSED, ENGINE_PROTOCOL. */
export interface Transport {
  /** The answer's body, whole. `undefined` for an empty one. */
  json(request: EngineRequest): Promise<unknown>;
  /** The answer's body as it comes. `timeoutMs` counts until the first answer only. */
  stream(request: EngineRequest): Promise<Readable>;
  /** A connection in both directions; `end()` closes our half only. `timeoutMs` counts until it is open. */
  hijack(request: EngineRequest): Promise<Duplex>;
}

/** An answer's body, with its status. */
type Answer = Readable & { statusCode?: number | undefined };

/** The largest JSON answer that is read, in bytes: a listing of a thousand containers has about 5 MB. */
const MAX_BODY = 32 * 1024 * 1024;
const MAX_ERROR_BODY = 64 * 1024;

/**
 * The part of docker-modem that is used. It is dockerode's transport; dockerode's own calls collect an answer without
 * bound and never settle when it is cut, and it loads gRPC for building images, so only the dialling is used and answers
 * are read here.
 */
interface Modem {
  dial(options: object, callback: (error: unknown, data: unknown) => void): void;
}

/** What docker-modem hands back when an upgrade was asked for and the engine answered plainly. */
interface PlainAnswer {
  _output: IncomingMessage;
}

// docker-modem turns every status that is not listed as true into an error of its own, reading the body without bound.
const ANY_STATUS = Object.fromEntries(Array.from({ length: 900 }, (_, i) => [i + 100, true]));

/** Opens nothing yet: connections are made per request, so a restarted engine leaves no stale one behind. */
export function createTransport(dockerHost: string | undefined, env: NodeJS.ProcessEnv): Transport {
  const options = { ...connectionOptions(dockerHost, env), headers: { Connection: 'close' } };
  let loading: Promise<Modem> | undefined;
  // Before a request's time begins to run.
  const open = () => (loading ??= loadModem(options));
  return {
    async json(request) {
      const modem = await open();
      return scoped(request, request.timeoutMs, async (signal) => {
        const answer = await dial(modem, request, false, signal);
        return parseBody(await readAnswer(answer as Answer, request, signal, MAX_BODY), request);
      });
    },
    async stream(request) {
      const modem = await open();
      const answer = await scoped(request, request.timeoutMs, async (signal) => {
        const opened = (await dial(modem, request, false, signal)) as Answer;
        if (!isRefusal(opened.statusCode)) return opened;
        return await readAnswer(opened, request, signal, MAX_ERROR_BODY).then(() => opened);
      });
      return endWith(answer, request.signal);
    },
    async hijack(request) {
      const modem = await open();
      const socket = await scoped(request, request.timeoutMs, async (signal) => {
        const opened = await dial(modem, request, true, signal);
        if (opened instanceof Socket) return opened;
        await readAnswer(opened as Answer, request, signal, MAX_ERROR_BODY);
        throw new LifeboatError('ENGINE_PROTOCOL', `engine did not open a stream for ${describe(request)}`, {
          hint: 'A proxy in front of the Docker socket must pass on connection upgrades.',
        });
      });
      return endWith(socket, request.signal);
    },
  };
}

/** Loaded when the engine is first asked: a helper of the agent's image never does. */
async function loadModem(options: object): Promise<Modem> {
  const { default: DockerModem } = await import('docker-modem');
  return new DockerModem(options);
}

function dial(modem: Modem, request: EngineRequest, hijack: boolean, signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const options = {
      method: request.method,
      // docker-modem appends the query after a "?", and takes the last character off when there is none.
      path: `${request.path}?`,
      options: request.query || request.body ? { _query: request.query ?? {}, _body: request.body ?? {} } : undefined,
      abortSignal: signal,
      isStream: true,
      hijack,
      openStdin: hijack,
      // Without a body docker-modem never sends the head of a request that keeps its input open.
      allowEmpty: hijack,
      statusCodes: ANY_STATUS,
      // Without a body docker-modem would not even send the head: it waits for input to be written.
      ...(hijack && !request.body ? { file: Buffer.alloc(0), headers: { 'Content-Type': 'text/plain' } } : {}),
    };
    modem.dial(options, (error, data) => {
      if (error) return reject(connectionError(error, request));
      // A connection that breaks before somebody reads it must not be an uncaught exception.
      if (data instanceof Socket) data.on('error', () => {});
      resolve(hijack && !(data instanceof Socket) ? bodyOf(data as PlainAnswer) : data);
    });
  });
}

/** docker-modem's own reader of such an answer never ends. It has begun to read, so the body is taken at once. */
function bodyOf({ _output: answer }: PlainAnswer): Answer {
  const body = new PassThrough();
  pipeline(answer, body, () => {});
  return Object.assign(body, { statusCode: answer.statusCode });
}

/** Runs `work` with a signal that aborts with the request's own or when the time is up, and settles then in any case. */
async function scoped<T>(
  request: EngineRequest,
  timeoutMs: number | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const ended = Promise.withResolvers<never>();
  const stop = (error: LifeboatError) => {
    ended.reject(error);
    controller.abort(error);
  };
  const onAbort = () => stop(interruption(request.signal));
  if (request.signal?.aborted) throw interruption(request.signal);
  request.signal?.addEventListener('abort', onAbort, { once: true });
  const late = () =>
    stop(new LifeboatError('ENGINE_UNREACHABLE', `engine did not answer ${describe(request)} in ${timeoutMs} ms`));
  const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
  try {
    return await Promise.race([work(controller.signal), ended.promise]);
  } finally {
    clearTimeout(timer);
    request.signal?.removeEventListener('abort', onAbort);
  }
}

/** The error that an aborted signal stands for: its reason if that is a LifeboatError, else INTERRUPTED. */
export function interruption(signal: AbortSignal | undefined): LifeboatError {
  const reason: unknown = signal?.reason;
  if (reason instanceof LifeboatError) return reason;
  return new LifeboatError('INTERRUPTED', 'asked to stop', { cause: reason });
}

/** Makes an open stream end with an error when the signal aborts. */
function endWith<T extends Readable>(stream: T, signal: AbortSignal | undefined): T {
  if (!signal) return stream;
  const onAbort = () => stream.destroy(interruption(signal));
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  stream.once('close', () => signal.removeEventListener('abort', onAbort));
  return stream;
}

/** Reads an answer up to `limit` bytes; throws ENGINE_REFUSED with the engine's words for a 4xx or 5xx. */
async function readAnswer(answer: Answer, request: EngineRequest, signal: AbortSignal, limit: number): Promise<string> {
  const status = answer.statusCode;
  const chunks: Buffer[] = [];
  let size = 0;
  const onAbort = () => answer.destroy();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limit) {
        throw new LifeboatError('ENGINE_PROTOCOL', `engine sent more than ${limit} bytes for ${describe(request)}`);
      }
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof LifeboatError ? error : connectionError(error, request);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  if (isRefusal(status)) throw refusal(status, text, request);
  return text;
}

/** 304 is the engine's "already so" for start and stop. */
function isRefusal(status: number | undefined): boolean {
  return status === undefined || !((status >= 200 && status < 300) || status === 304);
}

function parseBody(text: string, request: EngineRequest): unknown {
  if (text.trim() === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    // `/_ping` answers with a bare word.
    if (/^\w+$/.test(text)) return text;
    throw new LifeboatError('ENGINE_PROTOCOL', `engine sent no JSON for ${describe(request)}`, { cause });
  }
}
