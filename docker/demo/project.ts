import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The Compose project of the demo. It is controlled with `docker compose`, as a user would. */

export const PROJECT = 'lifeboat-demo';
const fileArgument = (name: string) => ['--file', fileURLToPath(new URL(name, import.meta.url))];
const COMPOSE = ['compose', '--progress', 'quiet', '--project-name', PROJECT, ...fileArgument('compose.yaml')];
/** environment variables that the off-site variant adds */
const variables: Record<string, string> = {};

/** Switches to the project with a copy in a bucket, encrypted for this age recipient. */
export function goOffSite(recipient: string): void {
  COMPOSE.push(...fileArgument('compose.off-site.yaml'));
  variables.LIFEBOAT_DEMO_RECIPIENT = recipient;
}

/** Characters of a failed program's output that are shown. */
const SHOWN = 2000;

/** The result of a program. `output` is stderr, then stdout: Lifeboat's progress, then its result. */
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

/** Runs `docker …`. Resolves for any exit status. Rejects if the signal aborts. */
export function docker(args: readonly string[], options: { input?: string; signal?: AbortSignal } = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    // In its own process group, so that Ctrl-C reaches only this program, which then cleans up.
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

/** Runs `docker compose …` on the project. Throws with the output for any exit status other than 0. */
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

/** Runs `docker compose exec lifeboat lifeboat …`. Resolves for any exit status. */
export function lifeboat(args: readonly string[], signal: AbortSignal): Promise<Ran> {
  return docker([...COMPOSE, 'exec', '--no-TTY', 'lifeboat', 'lifeboat', ...args], { signal });
}

/** Runs `lifeboat …` in a new container with the key to decrypt, which the agent does not have. */
export function lifeboatWithKey(identityFile: string, args: readonly string[], signal: AbortSignal): Promise<Ran> {
  const key = [
    '--volume',
    `${identityFile}:/run/age-identity:ro`,
    '--env',
    'LIFEBOAT_AGE_IDENTITY_FILE=/run/age-identity',
  ];
  return docker([...COMPOSE, 'run', '--rm', '--no-TTY', '--no-deps', ...key, 'lifeboat', ...args], { signal });
}

/** Removes everything that this demo or an earlier one created. Returns true if it removed anything. */
export async function removeAll(): Promise<boolean> {
  const labelled = async (label: string) => {
    const { stdout } = await docker(['ps', '--all', '--quiet', '--filter', `label=${label}=${PROJECT}`]);
    return stdout.split('\n').filter((id) => id !== '');
  };
  const before = await labelled('com.docker.compose.project');
  if (before.length > 0) await docker(['kill', ...before]);
  for (let tries = 1; ; tries += 1) {
    // Lifeboat's helpers are not services, so Compose does not know them.
    const helpers = await labelled('dev.lifeboat.project');
    if (helpers.length > 0) await docker(['rm', '--force', '--volumes', ...helpers]);
    try {
      await compose(['down', '--volumes', '--remove-orphans', '--timeout', '1']);
      return before.length > 0;
    } catch (error) {
      // A helper was created at that moment and uses a volume.
      if (tries === 3) throw error;
    }
  }
}
