import { type Duplex, PassThrough, type Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, stripVTControlCharacters } from 'node:util';
import Docker from 'dockerode';

/** The result of a program. */
export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

const { modem } = new Docker();

/**
 * Runs the `docker` commands that tests use most as calls of the engine's API. Starting the client takes as long as the
 * request itself, which was a tenth of the whole run. Returns undefined for other commands and unknown options.
 */
export function dockerCall([verb = '', ...args]: readonly string[], input?: string): Promise<Ran> | undefined {
  if (verb === 'exec') return exec(args, input);
  const [first = '', second = ''] = args;
  if (args.some((arg) => arg.startsWith('-'))) {
    if (verb === 'inspect' && first === '--format' && args.length === 3) return inspect(second, args[2] as string);
    if (verb === 'logs' && first === '--since' && args.length === 3) return logs(args[2] as string, second);
    if (verb === 'ps') return ps(args);
    return;
  }
  if (['kill', 'start', 'pause', 'unpause'].includes(verb) && args.length === 1) {
    return answered(async () => {
      await call('POST', `/containers/${first}/${verb}`);
      return { stdout: `${first}\n` };
    });
  }
  return;
}

function exec(args: readonly string[], input: string | undefined): Promise<Ran> | undefined {
  const at = args.findIndex((arg, i) => !arg.startsWith('-') && args[i - 1] !== '--user' && args[i - 1] !== '--env');
  let flags: { detach?: boolean; user?: string; env?: string[] };
  try {
    flags = parseArgs({
      args: args.slice(0, at),
      options: {
        interactive: { type: 'boolean' },
        detach: { type: 'boolean' },
        user: { type: 'string' },
        env: { type: 'string', multiple: true },
      },
    }).values;
  } catch {
    return;
  }
  const [container, ...Cmd] = args.slice(at);
  const attached = !flags.detach;
  const spec = {
    ...{ Cmd, AttachStdin: attached && input !== undefined, AttachStdout: attached, AttachStderr: attached },
    ...(flags.user ? { User: flags.user } : {}),
    ...(flags.env ? { Env: flags.env } : {}),
  };
  return answered(async () => {
    const { Id } = (await call('POST', `/containers/${container}/exec`, { body: spec })) as { Id: string };
    const body = { Detach: !attached, Tty: false };
    if (!attached) {
      await call('POST', `/exec/${Id}/start`, { body });
      return {};
    }
    const stream = (await call('POST', `/exec/${Id}/start`, { body, hijack: true })) as Duplex;
    if (input !== undefined) stream.end(input);
    return { ...(await demux(stream)), code: await exitCode(Id) };
  });
}

/** Returns the exit code of an exec whose output has ended. */
async function exitCode(exec: string): Promise<number> {
  for (let tries = 0; ; tries++) {
    const state = (await call('GET', `/exec/${exec}/json`)) as { Running: boolean; ExitCode: number | null };
    if (!state.Running && state.ExitCode !== null) return state.ExitCode;
    if (tries === 1200) throw new Error(`the end of exec ${exec} is not known`);
    await sleep(50);
  }
}

/** A command with its own terminal, as `docker exec --interactive --tty` provides to a user. */
export interface Terminal {
  /** all output so far, without colours and cursor movements */
  shown(): string;
  /** types text; `\r` is the Enter key */
  type(keys: string): void;
  /** the exit status */
  ended: Promise<number>;
}

/** Starts a command with a terminal. If it is still waiting at the end of a test, it ends with its container. */
export async function onTerminal(container: string, Cmd: string[], Env: string[] = []): Promise<Terminal> {
  const attached = { AttachStdin: true, AttachStdout: true, AttachStderr: true, Tty: true };
  const body = { ...attached, Cmd, Env: ['TERM=xterm', ...Env] };
  const { Id } = (await call('POST', `/containers/${container}/exec`, { body })) as { Id: string };
  const start = { Detach: false, Tty: true };
  const stream = (await call('POST', `/exec/${Id}/start`, { body: start, hijack: true })) as Duplex;
  let screen = '';
  stream.setEncoding('utf8').on('data', (text: string) => {
    screen += text;
  });
  stream.on('error', () => undefined);
  return {
    shown: () => stripVTControlCharacters(screen),
    type: (keys) => void stream.write(keys),
    ended: new Promise((resolve) => stream.once('close', resolve)).then(() => exitCode(Id)),
  };
}

function inspect(format: string, container: string): Promise<Ran> | undefined {
  const path = /^\{\{(json )?\.([\w.]+)\}\}$/.exec(format);
  if (!path) return;
  return answered(async () => {
    let value: unknown = await call('GET', `/containers/${container}/json`);
    for (const key of (path[2] as string).split('.')) value = (value as Record<string, unknown>)[key];
    return { stdout: `${path[1] ? JSON.stringify(value) : String(value)}\n` };
  });
}

function logs(container: string, since: string): Promise<Ran> {
  const query = { stdout: '1', stderr: '1', since: (Date.parse(since) / 1000).toFixed(9) };
  return answered(async () =>
    demux((await call('GET', `/containers/${container}/logs`, { query, stream: true })) as Readable),
  );
}

function ps(args: readonly string[]): Promise<Ran> | undefined {
  const label: string[] = [];
  let all = false;
  let show: ((container: { Id: string; Names: string[] }) => string) | undefined;
  for (let i = 0; i < args.length; i++) {
    const [name, value = ''] = [args[i], args[i + 1]];
    if (name === '--all') all = true;
    else if (name === '--quiet' && value === '--no-trunc' && i++ >= 0) show = ({ Id }) => Id;
    else if (name === '--filter' && value.startsWith('label=') && i++ >= 0) label.push(value.slice('label='.length));
    else if (name === '--format' && value === '{{.Names}}' && i++ >= 0) show = ({ Names }) => Names.join(',').slice(1);
    else return;
  }
  const query = { ...(all ? { all: '1' } : {}), filters: JSON.stringify({ label }) };
  return answered(async () => {
    const list = (await call('GET', '/containers/json', { query })) as { Id: string; Names: string[] }[];
    return { stdout: list.map((one) => `${show?.(one)}\n`).join('') };
  });
}

/** Returns the IP address of the host as containers on the default bridge see it. */
export async function bridgeGateway(): Promise<string | undefined> {
  const { IPAM } = (await call('GET', '/networks/bridge')) as { IPAM?: { Config?: { Gateway?: string }[] } };
  return IPAM?.Config?.[0]?.Gateway;
}

/**
 * Removes all containers with a label, with their anonymous volumes. They get no time to end, because nothing reads
 * what they leave behind.
 */
export async function removeContainers(label: string): Promise<void> {
  const query = { all: '1', filters: JSON.stringify({ label: [label] }) };
  const found = (await call('GET', '/containers/json', { query })) as { Id: string }[];
  await Promise.all(found.map(({ Id }) => remove(`/containers/${Id}`, { force: '1', v: '1' })));
}

/** Removes the networks and volumes of a Compose project. No container may use them any more. */
export async function removeNetworksAndVolumes(project: string): Promise<void> {
  const query = { filters: JSON.stringify({ label: [`com.docker.compose.project=${project}`] }) };
  const networks = (await call('GET', '/networks', { query })) as { Id: string }[];
  const { Volumes } = (await call('GET', '/volumes', { query })) as { Volumes: { Name: string }[] | null };
  const paths = [
    ...networks.map(({ Id }) => `/networks/${Id}`),
    ...(Volumes ?? []).map(({ Name }) => `/volumes/${Name}`),
  ];
  await Promise.all(paths.map((path) => remove(path)));
}

/** Removes something, unless it is gone, another request removes it, or a container of another project uses it. */
async function remove(path: string, query?: Record<string, string>): Promise<void> {
  await call('DELETE', path, query ? { query } : {}).catch((error: { statusCode?: number }) => {
    if (![403, 404, 409].includes(error.statusCode ?? 0)) throw error;
  });
}

/** Returns the output and exit status that the client would have. */
async function answered(work: () => Promise<Partial<Ran>>): Promise<Ran> {
  try {
    return { code: 0, stdout: '', stderr: '', ...(await work()) };
  } catch (error) {
    const { json, message } = error as { json?: { message?: string }; message: string };
    return { code: 1, stdout: '', stderr: `Error response from daemon: ${json?.message ?? message}\n` };
  }
}

async function demux(stream: Readable): Promise<Pick<Ran, 'stdout' | 'stderr'>> {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const read = Promise.all([text(out), text(err)]);
  modem.demuxStream(stream, out, err);
  // A command may end without reading its input. Its status shows the result.
  stream.on('error', () => undefined);
  await new Promise((resolve) => stream.once('close', resolve));
  out.end();
  err.end();
  const [stdout, stderr] = await read;
  return { stdout, stderr };
}

const STATUS_CODES = { 200: true, 201: true, 204: true, 304: true };

function call(
  method: string,
  path: string,
  { body, query, hijack, stream }: { body?: object; query?: Record<string, string>; hijack?: true; stream?: true } = {},
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    modem.dial(
      {
        ...{ path: query ? `${path}?` : path, method, statusCodes: STATUS_CODES },
        ...((query ?? body) ? { options: query ?? body } : {}),
        ...(hijack ? { hijack, openStdin: true } : {}),
        ...(hijack || stream ? { isStream: true } : {}),
      } as never,
      (error: unknown, answer: unknown) => (error ? reject(error) : resolve(answer)),
    );
  });
}
