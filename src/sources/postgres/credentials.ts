import type { Engine } from '../../docker/engine.ts';
import { execText } from '../../docker/exec.ts';
import type { Helper } from '../../docker/helper.ts';
import type { PostgresSource } from '../../plan/model.ts';
import { registerSecret } from '../../redact.ts';
import { type Connection, PASSFILE } from './commands.ts';
import { withWatchdog } from './watchdog.ts';

export interface Credentials {
  user: string;
  /** absent where the server trusts whoever connects */
  password: string | undefined;
  /** the database to connect to first */
  database: string;
}

/** What reading a file or writing the password file takes at most, milliseconds: a mount may hang. */
const LIMIT_MS = 60_000;

/**
 * The settings of the container, or what the files hold that its *_FILE settings name, read by the helper. The password is
 * masked wherever something is written from then on. Errors: PG_STALLED when a file cannot be read in time, EXEC_FAILED.
 */
export async function resolveCredentials(
  engine: Engine,
  helper: Helper,
  source: PostgresSource,
  signal: AbortSignal,
): Promise<Credentials> {
  const read = async (file: string | undefined): Promise<string | undefined> => {
    if (file === undefined) return undefined;
    const { stdout } = await inTime(source, `reading ${file}`, signal, (limited) =>
      execText(engine, helper.id, { argv: ['cat', '--', file], signal: limited }),
    );
    return stdout.replace(/[\r\n]+$/, '');
  };
  const user = (await read(source.userFile)) ?? source.user;
  const password = (await read(source.passwordFile)) ?? source.password;
  const database = (await read(source.databaseFile)) ?? source.database;
  // A password that is also a public name protects nothing, and masking it would make every message unreadable.
  if (password !== undefined && ![user, database, 'postgres', 'password'].includes(password)) registerSecret(password);
  return { user, password, database };
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
  engine: Engine,
  helper: Helper,
  source: PostgresSource,
  connection: Connection,
  password: string,
  signal: AbortSignal,
): Promise<void> {
  const field = (text: string) => text.replaceAll('\\', '\\\\').replaceAll(':', '\\:');
  const line = `127.0.0.1:${connection.port}:*:${field(connection.user)}:${field(password)}\n`;
  const argv = ['sh', '-c', 'umask 077 && cat > "$0"', PASSFILE];
  await inTime(source, 'writing the password file', signal, (limited) =>
    execText(engine, helper.id, { argv, input: line, signal: limited }),
  );
}
