import { hasCode, LifeboatError } from '../../../base/errors.ts';
import { markPermanent } from './address.ts';
import { TOOLS } from './commands.ts';
import { sqlState } from './sql-state.ts';

/** The details of a connection that errors name. */
export interface Connecting {
  container: string;
  /** address of the server, formatted */
  address: string;
  user: string;
  database: string;
  /** the variable, setting or label that provides the password; absent if none does */
  passwordFrom?: string;
  /** the file that should hold the password but is missing in the container */
  missingFile?: string;
  /** a proxy of the Docker socket refuses to read that file */
  isRefused?: boolean;
}

/**
 * A refusal, recognised by its SQLSTATE (Postgres docs, appendix A) and, if that is ambiguous, by the server's message.
 */
interface Refusal {
  state: RegExp;
  words?: RegExp;
  hint(connecting: Connecting): string;
}

const ANOTHER_ROLE = 'LIFEBOAT_PGUSER, or LIFEBOAT_PGCREDENTIALS for one source';

/** Matches the messages of a server that accepts no more connections (SQLSTATE 53300). */
export const OUT_OF_CONNECTIONS = /too many clients already|remaining connection slots|too many connections for/;

/** Hint for {@link OUT_OF_CONNECTIONS}. */
export const CONNECTIONS_HINT =
  'All connections are in use: close some, raise max_connections, or put a pooler in front of the application. A run uses up to nine; a superuser may also use those of superuser_reserved_connections.';
const LIMIT_HINT =
  'Raise the limit (ALTER ROLE or ALTER DATABASE … CONNECTION LIMIT): a run uses up to nine connections.';

/**
 * The first match applies. An error without a match gets no hint, because the server's message says more than a guess.
 */
const REFUSALS: readonly Refusal[] = [
  { state: /^28P01$/, hint: passwordHint },
  {
    state: /^28000$/,
    words: /pg_hba\.conf/,
    hint: ({ user, address }) =>
      `Add a line to pg_hba.conf that allows ${user} from the address in the message (Lifeboat connects to ${address}), and reload the configuration.`,
  },
  {
    state: /^28000$/,
    words: /role ".*" does not exist/s,
    hint: () => `Name an existing role in ${ANOTHER_ROLE}.`,
  },
  {
    state: /^28000$/,
    words: /not permitted to log in/,
    hint: () => `Allow the role to log in (ALTER ROLE … LOGIN), or name another role in ${ANOTHER_ROLE}.`,
  },
  {
    state: /^28000$/,
    words: /peer|ident/i,
    hint: () =>
      'pg_hba.conf requires a user of the operating system, which a helper does not have: allow this role with scram-sha-256.',
  },
  {
    state: /^28000$/,
    words: /certificate/i,
    hint: () =>
      'pg_hba.conf requires a client certificate, which Lifeboat does not have: allow this role with scram-sha-256 from 127.0.0.1.',
  },
  {
    state: /^42501$/,
    hint: ({ user, database }) =>
      `Allow ${user} to connect (GRANT CONNECT ON DATABASE), or exclude ${database} with lifeboat.postgres.exclude-databases.`,
  },
  { state: /^53300$/, words: /for (role|database) /, hint: () => LIMIT_HINT },
  { state: /^53300$/, hint: () => CONNECTIONS_HINT },
  { state: /^57P03$/, hint: () => 'It is starting, stopping or recovering: try again when it is up.' },
];

function passwordHint({ passwordFrom, missingFile, isRefused, container }: Connecting): string {
  if (isRefused)
    return `${passwordFrom} names ${missingFile}, which the proxy of the Docker socket refuses to read: allow GET /containers/<id>/archive, or set the password in LIFEBOAT_PGCREDENTIALS.`;
  if (missingFile !== undefined) return `${passwordFrom} names ${missingFile}, and ${container} has no such file.`;
  const set =
    'LIFEBOAT_PGPASSWORD (with LIFEBOAT_PGUSER), or LIFEBOAT_PGCREDENTIALS for one source, in the environment of the service `lifeboat`; or label the database with lifeboat.postgres.password-secret, if its service has the password as a secret';
  if (passwordFrom === undefined) return `The settings of ${container} name no password. Set it in ${set}.`;
  if (!/^(POSTGRES|PG)/.test(passwordFrom)) return `${passwordFrom} does not hold the password that the role has now.`;
  return `${passwordFrom} only applies when the data directory is first created: set the password that the role has now in ${set}.`;
}

/**
 * Converts the error of a session that could not be opened: to PG_DATABASE_UNKNOWN, to PG_AUTH for refused credentials,
 * else to PG_UNREACHABLE. INTERRUPTED and PG_AUTH stay as they are.
 */
export function connectError(error: unknown, connecting: Connecting): LifeboatError {
  if (hasCode(error, 'INTERRUPTED', 'PG_AUTH')) return error;
  const { container, database, user, address } = connecting;
  const state = sqlState(error);
  if (state === '3D000') {
    return new LifeboatError('PG_DATABASE_UNKNOWN', `database container ${container} has no database ${database}`, {
      cause: error,
      hint: 'Name a database that exists in lifeboat.postgres.databases or POSTGRES_DB.',
    });
  }
  const words = wordsOf(error);
  const hint = REFUSALS.find(
    (refusal) => refusal.state.test(state ?? '') && (refusal.words?.test(words) ?? true),
  )?.hint(connecting);
  const because = { cause: error, ...(hint === undefined ? {} : { hint }) };
  if (state?.startsWith('28') || state === '42501') {
    return new LifeboatError(
      'PG_AUTH',
      `database container ${container} refused the credentials of user ${user}`,
      because,
    );
  }
  // The client itself failed the password exchange.
  if (state === undefined && /password|SASL|SCRAM/i.test(words)) {
    const why = { cause: error, hint: passwordHint(connecting) };
    return new LifeboatError('PG_AUTH', `database container ${container} refused the credentials of user ${user}`, why);
  }
  if (state !== undefined)
    return new LifeboatError('PG_UNREACHABLE', `database container ${container} refused the connection`, because);
  const tunnel = tunnelHint(words, connecting);
  const silent = new LifeboatError('PG_UNREACHABLE', `database container ${container} does not answer`, {
    cause: error,
    hint: tunnel ?? `Check \`docker logs ${container}\`: is Postgres up, and does it listen at ${address}?`,
  });
  return tunnel === undefined ? silent : markPermanent(silent);
}

/**
 * Returns a hint if the tunnel failed before the server responded, else undefined. The image of the database may lack
 * the program that the helper runs (status 126 or 127), or its user may not open the Unix socket (unix(7): EACCES).
 */
function tunnelHint(words: string, { container, address }: Connecting): string | undefined {
  if (/executable file not found|ended with status 12[67](?!\d)/.test(words)) {
    return address.includes('/')
      ? `The image of ${container} has no perl, which Lifeboat needs for a Unix socket: install it in the image, or let the server listen on 127.0.0.1 too (listen_addresses).`
      : `The image of ${container} has neither bash nor nc, one of which Lifeboat needs to reach the server: install bash in the image.`;
  }
  if (address.includes('/') && /Permission denied/.test(words)) {
    return `The user of the image of ${container} may not open the socket: allow it with unix_socket_permissions = 0777 and the mode of the directory, or let the server listen on 127.0.0.1 too (listen_addresses).`;
  }
  return undefined;
}

/**
 * Returns true for a refusal by `pg_hba.conf` (auth.c, ClientAuthentication). Another line may accept the connection
 * with TLS, or without. The message names the file in every language.
 */
export function isHostRefusal(error: unknown): boolean {
  return sqlState(error) === '28000' && /pg_hba\.conf/.test(wordsOf(error));
}

function wordsOf(error: unknown): string {
  const all: string[] = [];
  for (let e = error; e instanceof Error; e = e.cause) all.push(e.message);
  return all.join('\n');
}

/** Prints `none` if the image of the container has no program of Postgres. */
export const NO_PROGRAMS_ARGV = [
  ...['sh', '-c'],
  `${TOOLS}; command -v pg_dump >/dev/null || command -v psql >/dev/null || command -v postgres >/dev/null || echo none`,
];

/** Returns the error about a container that is no database server. Waiting does not help. */
export function noPostgres(container: string, cause: unknown): LifeboatError {
  const message = `the image of container ${container} has no Postgres programs`;
  const hint = 'Is the label lifeboat.postgres on the right service? It belongs on the service of the database server.';
  return markPermanent(new LifeboatError('PG_UNREACHABLE', message, { cause, hint }));
}
