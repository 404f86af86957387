import type { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { PassThrough, pipeline, type Readable } from 'node:stream';
import type Docker from 'dockerode';
import { onAbort } from '../base/abort.ts';
import { LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Bounds, endWith, withinBounds } from './bounds.ts';
import { connectionOptions } from './docker-host.ts';
import { connectionError, describe, type EngineRequest, refusal } from './engine-errors.ts';

/**
 * dockerode with limits. dockerode reads a response of any size, never finishes if a connection breaks in the middle of
 * one, and accepts no signal for some calls. So each call gets its own dockerode over a modem (docker-modem,
 * dockerode's transport) that uses the signal of the call, and that reads and checks the response here.
 *
 * Every failure is a LifeboatError: ENGINE_UNREACHABLE, ENGINE_REFUSED, ENGINE_PROTOCOL, or the reason of the aborted
 * signal. A call finishes within its limits, whatever the engine does.
 */
export interface BoundedDocker {
  /** Resolves to the whole response, parsed. `timeoutMs` covers all of it. */
  call<T>(bounds: Bounds, work: (docker: Docker) => Promise<T>): Promise<T>;
  /**
   * Resolves to a streamed response, or to a connection in both directions, whose `end()` closes only our half.
   * `timeoutMs` applies until it is open. After that, the signal ends it.
   */
  open<T extends NodeJS.ReadableStream>(
    bounds: Bounds,
    work: (docker: Docker) => Promise<NodeJS.ReadableStream>,
  ): Promise<T>;
}

type Modem = Docker['modem'];
type DialOptions = Parameters<Modem['dial']>[0];

/** The state of one call. */
interface Call {
  signal: AbortSignal;
  /** set when the call is sent */
  request: EngineRequest;
  log: Log;
}

/** The body of a response, with its status. */
type Answer = Readable & { statusCode?: number | undefined };

/** The largest JSON response to read, bytes: a listing of a thousand containers is about 5 MB. */
const MAX_BODY = 32 * 1024 * 1024;
const MAX_ERROR_BODY = 64 * 1024;

// docker-modem turns every status not listed as true into its own error, and reads that body without a limit.
const ANY_STATUS = Object.fromEntries(Array.from({ length: 900 }, (_, i) => [i + 100, true]));

/** Opens no connection yet. Each request opens its own, so a restarted engine leaves no stale connection behind. */
export function createBoundedDocker(dockerHost: string | undefined, env: NodeJS.ProcessEnv, log: Log): BoundedDocker {
  const options = { ...connectionOptions(dockerHost, env), headers: { Connection: 'close' } };
  const load = async () => {
    const { default: DockerClient } = await import('dockerode');
    const { modem } = new DockerClient(options);
    return (dial: (modem: Modem) => Modem) => new DockerClient({ modem: dial(modem) } as Docker.DockerOptions);
  };
  // Loads dockerode at the first call, because a helper with the agent's image never makes one.
  let loading: ReturnType<typeof load> | undefined;
  const call: BoundedDocker['call'] = async (bounds, work) => {
    loading ??= load();
    // Loading does not count towards the time limit of the call.
    const docker = await loading;
    const request = { method: '', path: '' };
    const late = () =>
      new LifeboatError('ENGINE_UNREACHABLE', `engine did not answer ${describe(request)} in ${bounds.timeoutMs} ms`);
    return withinBounds(bounds, late, (signal, fail) =>
      work(docker((modem) => boundedModem(modem, { signal, request, log }, fail))),
    );
  };
  return {
    call,
    open: async <T>(bounds: Bounds, work: (docker: Docker) => Promise<NodeJS.ReadableStream>) =>
      endWith((await call(bounds, work)) as Readable, bounds.signal) as T,
  };
}

/** Returns a modem for one call. `fail` ends the call. */
function boundedModem(modem: Modem, call: Call, fail: (error: LifeboatError) => void): Modem {
  const dial: Modem['dial'] = (options, done) => {
    send(modem, options, call)
      .then(
        (data) => done?.(null, data as object),
        (error: Error) => done?.(error, null),
      )
      .catch((cause: unknown) => {
        // dockerode reads fields of some responses without checking that they exist.
        const what = `engine sent an answer to ${describe(call.request)} that cannot be right`;
        fail(new LifeboatError('ENGINE_PROTOCOL', what, { cause }));
      });
  };
  return Object.assign(Object.create(modem), { dial });
}

/** Sends one request. Resolves to a connection if one was requested, to a stream, or to the whole response, parsed. */
async function send(modem: Modem, options: DialOptions, { signal, request, log }: Call): Promise<unknown> {
  const { isStream = false, hijack = false } = options;
  Object.assign(request, { method: options.method, path: options.path.replace(/\?$/, '') });
  log.debug(isStream ? 'engine stream' : 'engine call', { ...request });
  const answer = await dial(modem, { ...options, abortSignal: signal }, request);
  if (answer instanceof Socket) return answer;
  if (isStream && !hijack && !isRefusal(answer.statusCode)) return answer;
  const text = await readAnswer(answer, request, signal, isStream ? MAX_ERROR_BODY : MAX_BODY);
  if (!hijack) return parseBody(text, request);
  throw new LifeboatError('ENGINE_PROTOCOL', `engine did not open a stream for ${describe(request)}`, {
    hint: 'A proxy in front of the Docker socket must forward connection upgrades.',
  });
}

function dial(modem: Modem, options: DialOptions, request: EngineRequest): Promise<Socket | Answer> {
  const { hijack } = options;
  return new Promise((resolve, reject) => {
    const more = {
      isStream: true,
      statusCodes: ANY_STATUS,
      // Otherwise, docker-modem never sends the head of a request whose input stays open.
      ...(hijack ? { openStdin: true, allowEmpty: true } : {}),
      // Otherwise, the query parameters would also be sent in the body, and become input of the container.
      ...(hijack && options.path.endsWith('?')
        ? { file: Buffer.alloc(0), headers: { 'Content-Type': 'text/plain' } }
        : {}),
    };
    modem.dial({ ...options, ...more }, (error, data) => {
      if (error) return reject(connectionError(error, request));
      // A connection that breaks before it is read must not cause an uncaught exception.
      if (data instanceof Socket) data.on('error', () => {});
      resolve(hijack && !(data instanceof Socket) ? bodyOf(data as PlainAnswer) : (data as Socket | Answer));
    });
  });
}

/** The value that docker-modem returns if an upgrade was requested and the engine sent a plain response. */
interface PlainAnswer {
  _output: IncomingMessage;
}

/**
 * Returns the body of such a response. docker-modem's own reader never ends, and has begun to read, so this takes the
 * body at once.
 */
function bodyOf({ _output: answer }: PlainAnswer): Answer {
  const body = new PassThrough();
  pipeline(answer, body, () => {});
  return Object.assign(body, { statusCode: answer.statusCode });
}

/** Reads a response of up to `limit` bytes. @throws ENGINE_REFUSED with the engine's message for a 4xx or 5xx */
async function readAnswer(answer: Answer, request: EngineRequest, signal: AbortSignal, limit: number): Promise<string> {
  const status = answer.statusCode;
  const chunks: Buffer[] = [];
  let size = 0;
  const forget = onAbort(signal, () => answer.destroy());
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
    forget();
  }
  const text = Buffer.concat(chunks).toString('utf8');
  if (isRefusal(status)) throw refusal(status, text, request);
  return text;
}

/** Returns true for a refusal. 304 is not one: it means that a container is already started or stopped. */
function isRefusal(status: number | undefined): boolean {
  return status === undefined || !((status >= 200 && status < 300) || status === 304);
}

function parseBody(text: string, request: EngineRequest): unknown {
  if (text.trim() === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    // `/_ping` returns a bare word.
    if (/^\w+$/.test(text)) return text;
    throw new LifeboatError('ENGINE_PROTOCOL', `engine sent no JSON for ${describe(request)}`, { cause });
  }
}
