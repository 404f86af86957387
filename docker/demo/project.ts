import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The Compose project of the demo, driven through `docker compose`, as a user would do it. */

export const PROJECT = 'lifeboat-demo';
const fileArgument = (name: string) => ['--file', fileURLToPath(new URL(name, import.meta.url))];
const COMPOSE = ['compose', '--progress', 'quiet', '--project-name', PROJECT, ...fileArgument('compose.yaml')];
/** what the off-site variant adds to everybody's environment */
const variables: Record<string, string> = {};

/** From now on the project is the one with a copy in a bucket, encrypted for this age recipient. */
export function goOffSite(recipient: string): void {
  COMPOSE.push(...fileArgument('compose.off-site.yaml'));
  variables.LIFEBOAT_DEMO_RECIPIENT = recipient;
}

/** How much of a failed program's output is shown, characters. */
const SHOWN = 2000;

/** What a program came to; `output` is stderr, then stdout: what Lifeboat says while it works, then the result. */
export interface Ran {
  status: number;
  stdout: string;
  output: string;
}

function environment(): NodeJS.ProcessEnv {
  const { DOCKER_HOST: host } = process.env;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return {
    ...process.env,
    ...variables,
    ...(zone ? { LIFEBOAT_DEMO_ZONE: zone } : {}),
    ...(host?.startsWith('unix://') ? { LIFEBOAT_DEMO_SOCKET: host.slice('unix://'.length) } : {}),
  };
}

/** Runs `docker …`; rejects when the signal aborts, else resolves whatever the status. */
export function docker(args: readonly string[], options: { input?: string; signal?: AbortSignal } = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    // A process group of its own: Ctrl-C is for this program, which then removes what it made.
    const child = spawn('docker', args, { env: environment(), detached: true });
    const said = { stdout: '', stderr: '' };
    const abort = () => child.kill();
    options.signal?.addEventListener('abort', abort, { once: true });
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said.stderr += text;
    });
    child.once('error', reject);
    child.once('close', (status) => {
      options.signal?.removeEventListener('abort', abort);
      if (options.signal?.aborted) reject(options.signal.reason);
      else resolve({ status: status ?? 1, stdout: said.stdout, output: said.stderr + said.stdout });
    });
    child.stdin.on('error', () => undefined).end(options.input ?? '');
  });
}

/** `docker compose …` on the demo's project; a status other than 0 is an error that shows what was said. */
export async function compose(
  args: readonly string[],
  options: { input?: string; signal?: AbortSignal } = {},
): Promise<string> {
  const { status, stdout, output } = await docker([...COMPOSE, ...args], options);
  if (status !== 0)
    throw new Error(`docker compose ${args.join(' ')} ended with status ${status}\n${output.slice(-SHOWN)}`);
  return stdout;
}

/** Runs a command in the container of a service. */
export function inService(
  service: string,
  argv: readonly string[],
  signal: AbortSignal,
  input?: string,
): Promise<string> {
  return compose(['exec', '--no-TTY', service, ...argv], { signal, ...(input === undefined ? {} : { input }) });
}

/** `docker compose exec lifeboat lifeboat …`, whatever its status. */
export function lifeboat(args: readonly string[], signal: AbortSignal): Promise<Ran> {
  return docker([...COMPOSE, 'exec', '--no-TTY', 'lifeboat', 'lifeboat', ...args], { signal });
}

/** `lifeboat …` in a new container that can read what is encrypted: the agent itself has no key for it. */
export function lifeboatWithKey(identityFile: string, args: readonly string[], signal: AbortSignal): Promise<Ran> {
  const key = [
    '--volume',
    `${identityFile}:/run/age-identity:ro`,
    '--env',
    'LIFEBOAT_AGE_IDENTITY_FILE=/run/age-identity',
  ];
  return docker([...COMPOSE, 'run', '--rm', '--no-TTY', '--no-deps', ...key, 'lifeboat', ...args], { signal });
}

/** Resolves with the first line of a service's log that `wanted` accepts. */
export function logLine(service: string, wanted: (line: string) => boolean, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const args = [...COMPOSE, 'logs', '--follow', '--no-color', '--no-log-prefix', service];
    const child = spawn('docker', args, { env: environment(), detached: true, stdio: ['ignore', 'pipe', 'ignore'] });
    const stop = () => child.kill();
    signal.addEventListener('abort', stop, { once: true });
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (!wanted(line)) return;
      resolve(line);
      stop();
    });
    child.once('error', reject).once('close', () => {
      signal.removeEventListener('abort', stop);
      reject(signal.aborted ? signal.reason : new Error(`the log of ${service} ended`));
    });
  });
}

/** Removes everything that the demo made, also what an earlier one left; resolves to whether there was anything. */
export async function removeAll(): Promise<boolean> {
  const labelled = async (label: string) => {
    const { stdout } = await docker(['ps', '--all', '--quiet', '--filter', `label=${label}=${PROJECT}`]);
    return stdout.split('\n').filter((id) => id !== '');
  };
  const before = await labelled('com.docker.compose.project');
  if (before.length > 0) await docker(['kill', ...before]);
  for (let tries = 1; ; tries += 1) {
    // Lifeboat's own short-lived containers are no services, so Compose does not know them.
    const helpers = await labelled('dev.lifeboat.project');
    if (helpers.length > 0) await docker(['rm', '--force', '--volumes', ...helpers]);
    try {
      await compose(['down', '--volumes', '--remove-orphans', '--timeout', '1']);
      return before.length > 0;
    } catch (error) {
      // One was being made at that moment, and holds a volume.
      if (tries === 3) throw error;
    }
  }
}
