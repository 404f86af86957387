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

export interface Credentials {
  user: string;
  /** absent where the server trusts whoever connects */
  password: string | undefined;
  /** a file that was to hold the password and is not in the container */
  missingFile?: string;
  /** it may be there: a proxy of the Docker socket lets nobody read files of containers */
  isRefused?: boolean;
  /** the database to connect to first */
  database: string;
}

/** What reading a file or writing the password file takes at most, milliseconds: a mount may hang. */
const LIMIT_MS = 60_000;

/**
 * The settings of the container, or what the files hold that they name: read out of the container's file system, where Compose
 * mounts a secret, or copies one that comes from the environment. The password is masked wherever something is written from then on.
 * A password file that is not there, or that a proxy lets nobody read, counts as no password: where the server wants one, the error
 * says so. In place of a name of a database that cannot be read stands `postgres`.
 *
 * Errors: PG_STALLED when a file cannot be read in time, PG_AUTH when that of the user is not there, ENGINE_*.
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
    const what = isRefused ? 'cannot be read' : 'is not there, or empty';
    throw new LifeboatError('PG_AUTH', `${source.userFile} in ${source.containerName}, which names its user, ${what}`, {
      hint: `${isRefused ? 'Let GET /containers/<id>/archive through in the proxy of the Docker socket, or name' : 'Name'} the role in LIFEBOAT_PGCREDENTIALS, or with the label lifeboat.postgres.user.`,
    });
  }
  const password = (await read(source.passwordFile)) ?? source.password;
  const database =
    source.databaseFile === undefined ? source.database : (await read(source.databaseFile)) || 'postgres';
  // A password that is also a public name protects nothing, and masking it would make every message unreadable.
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

/** Writes the password file of libpq (Postgres docs, 34.16) to the helper's tmpfs, through stdin. */
export async function writePassfile(
  { engine, helper, source, signal }: { engine: Engine; helper: Helper; source: PostgresSource; signal: AbortSignal },
  user: string,
  password: string,
): Promise<void> {
  const field = (text: string) => text.replaceAll('\\', '\\\\').replaceAll(':', '\\:');
  // A helper knows one server only, whatever its address is.
  const line = `*:*:*:${field(user)}:${field(password)}\n`;
  const argv = ['sh', '-c', 'umask 077 && cat > "$0"', PASSFILE];
  await inTime(source, 'writing the password file', signal, (limited) =>
    execText(engine, helper.id, { argv, input: line, signal: limited }),
  );
}
