import { LifeboatError } from '../../../base/errors.ts';
import { registerSecret } from '../../../base/redact.ts';
import { readContainerFile } from '../../../docker/container-file.ts';
import type { Engine } from '../../../docker/engine.ts';
import { isForbidden } from '../../../docker/engine-errors.ts';
import { execText } from '../../../docker/exec.ts';
import type { Helper } from '../../../docker/helper.ts';
import type { PostgresSource } from '../../../plan/model.ts';
import { PASSFILE } from './commands.ts';
import { withWatchdog } from './watchdog.ts';

/** The credentials of a server, and the database to use first. */
export interface Credentials {
  user: string;
  /** absent if the server requires none */
  password: string | undefined;
  /** the file that should hold the password but is missing in the container */
  missingFile?: string;
  /** the file may exist, but a proxy of the Docker socket refuses to read files of containers */
  isRefused?: boolean;
  /** the database to connect to first */
  database: string;
}

/** The longest time to read a file or to write the password file, milliseconds: a mount may hang. */
const LIMIT_MS = 60_000;

/**
 * Reads credentials from the settings of the container, or from the files that the settings name. The files are read
 * from the container's file system, where Compose mounts secrets or copies those that come from the environment. From
 * then on, the password is masked in all output.
 *
 * A missing or unreadable password file counts as no password: if the server requires one, the error names the file. A
 * missing or unreadable file for the database's name counts as `postgres`.
 *
 * @throws PG_STALLED when a file cannot be read in time, PG_AUTH when the file with the user's name is missing,
 * ENGINE_*
 */
export async function resolveCredentials(
  engine: Engine,
  source: PostgresSource,
  signal: AbortSignal,
): Promise<Credentials> {
  let isRefused = false;
  const read = async (file: string | undefined): Promise<string | undefined> => {
    if (file === undefined) return undefined;
    const content = await inTime(source, `reading ${file}`, signal, (limited) =>
      readContainerFile(engine, source.containerId, file, { signal: limited }),
    ).catch((error: unknown) => {
      if (!isForbidden(error)) throw error;
      isRefused = true;
      return undefined;
    });
    return content?.toString('utf8').replace(/[\r\n]+$/, '');
  };
  const user = source.userFile === undefined ? source.user : await read(source.userFile);
  if (!user) {
    const what = isRefused ? 'cannot be read' : 'is missing or empty';
    throw new LifeboatError('PG_AUTH', `${source.userFile} in ${source.containerName}, which names its user, ${what}`, {
      hint: `${isRefused ? 'Allow GET /containers/<id>/archive in the proxy of the Docker socket, or name' : 'Name'} the role in LIFEBOAT_PGCREDENTIALS, or with the label lifeboat.postgres.user.`,
    });
  }
  const password = (await read(source.passwordFile)) ?? source.password;
  const database =
    source.databaseFile === undefined ? source.database : (await read(source.databaseFile)) || 'postgres';
  // A password that is also a public name protects nothing, and masking it would make messages unreadable.
  if (password !== undefined && ![user, database, 'postgres', 'password'].includes(password)) registerSecret(password);
  const missing = password === undefined ? source.passwordFile : undefined;
  return {
    user,
    password: password || undefined,
    database,
    ...(missing === undefined ? {} : { missingFile: missing, isRefused }),
  };
}

function inTime<T>(
  { containerName }: PostgresSource,
  what: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return withWatchdog({ timeoutMs: LIMIT_MS, pulses: [], signal, what: `${what} of ${containerName}` }, work);
}

/**
 * Writes the password file of libpq (Postgres docs, 34.16) to the helper's tmpfs. The password passes through stdin.
 */
export async function writePassfile(
  { engine, helper, source, signal }: { engine: Engine; helper: Helper; source: PostgresSource; signal: AbortSignal },
  user: string,
  password: string,
): Promise<void> {
  const field = (text: string) => text.replaceAll('\\', '\\\\').replaceAll(':', '\\:');
  // A helper connects to a single server, so the line may match every address.
  const line = `*:*:*:${field(user)}:${field(password)}\n`;
  const argv = ['sh', '-c', 'umask 077 && cat > "$0"', PASSFILE];
  await inTime(source, 'writing the password file', signal, (limited) =>
    execText(engine, helper.id, { argv, input: line, signal: limited }),
  );
}
