import { hasCode, LifeboatError } from '../../../base/errors.ts';
import { sqlState } from './sql-state.ts';

/** Who connects where, as errors name it. */
export interface Connecting {
  container: string;
  /** where the server is reached, in words */
  address: string;
  user: string;
  database: string;
  /** the variable, setting or label that has the password; absent where there is none */
  passwordFrom?: string;
  /** a file that was to hold the password and is not in the container */
  missingFile?: string;
  /** a proxy of the Docker socket does not let that file be read */
  isRefused?: boolean;
}

/** A refusal by what the server said: with its SQLSTATE (Postgres docs, appendix A) and, where that is not enough, its words. */
interface Refusal {
  state: RegExp;
  words?: RegExp;
  hint(connecting: Connecting): string;
}

const ANOTHER_ROLE = 'LIFEBOAT_PGUSER, or LIFEBOAT_PGCREDENTIALS for one source';

/** How the server says that it takes no more connections (SQLSTATE 53300). */
export const OUT_OF_CONNECTIONS = /too many clients already|remaining connection slots|too many connections for/;

/** What to do about it. */
export const CONNECTIONS_HINT =
  'All connections are in use: close some, raise max_connections, or put a pooler before the application. A run takes up to nine; a superuser may also take those of superuser_reserved_connections.';
const LIMIT_HINT =
  'Raise the limit (ALTER ROLE or ALTER DATABASE … CONNECTION LIMIT): a run takes up to nine connections.';

/** The first that fits counts. What fits none gets no hint: the server's words say more than a guess. */
const REFUSALS: readonly Refusal[] = [
  { state: /^28P01$/, hint: passwordHint },
  {
    state: /^28000$/,
    words: /pg_hba\.conf/,
    hint: ({ user, address }) =>
      `Add a line to pg_hba.conf that lets ${user} in from where the message says (the server is reached at ${address}), and reload it.`,
  },
  {
    state: /^28000$/,
    words: /role ".*" does not exist/s,
    hint: () => `Name a role that the server has in ${ANOTHER_ROLE}.`,
  },
  {
    state: /^28000$/,
    words: /not permitted to log in/,
    hint: () => `Let it log in (ALTER ROLE … LOGIN), or name another role in ${ANOTHER_ROLE}.`,
  },
  {
    state: /^28000$/,
    words: /peer|ident/i,
    hint: () =>
      'pg_hba.conf asks for a user of the operating system, which a helper has not: let this role in with scram-sha-256.',
  },
  {
    state: /^28000$/,
    words: /certificate/i,
    hint: () =>
      'pg_hba.conf asks for a certificate of the client, which Lifeboat has not: let this role in with scram-sha-256 from 127.0.0.1.',
  },
  {
    state: /^42501$/,
    hint: ({ user, database }) =>
      `Let ${user} connect (GRANT CONNECT ON DATABASE), or leave ${database} out with lifeboat.postgres.exclude-databases.`,
  },
  { state: /^53300$/, words: /for (role|database) /, hint: () => LIMIT_HINT },
  { state: /^53300$/, hint: () => CONNECTIONS_HINT },
  { state: /^57P03$/, hint: () => 'It is starting, stopping or recovering: when it is up, run it again.' },
];

function passwordHint({ passwordFrom, missingFile, isRefused, container }: Connecting): string {
  if (isRefused)
    return `${passwordFrom} names ${missingFile}, which the proxy of the Docker socket does not let Lifeboat read: let GET /containers/<id>/archive through, or set the password in LIFEBOAT_PGCREDENTIALS.`;
  if (missingFile !== undefined) return `${passwordFrom} names ${missingFile}, and ${container} has no such file.`;
  const set = 'LIFEBOAT_PGPASSWORD (with LIFEBOAT_PGUSER), or LIFEBOAT_PGCREDENTIALS for one source';
  if (passwordFrom === undefined)
    return `No password is known: the settings of ${container} name none. Set it in ${set}.`;
  if (!/^(POSTGRES|PG)/.test(passwordFrom)) return `${passwordFrom} does not hold the password that the role has now.`;
  return `${passwordFrom} only counts when the data directory is first created: set the password that the role has now in ${set}.`;
}

/**
 * Why a session could not be opened. PG_DATABASE_UNKNOWN, PG_AUTH for who may not, PG_UNREACHABLE for the rest; INTERRUPTED and PG_AUTH stay.
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
  // What the client itself finds wrong in the exchange of the password.
  if (state === undefined && /password|SASL|SCRAM/i.test(words)) {
    const why = { cause: error, hint: passwordHint(connecting) };
    return new LifeboatError('PG_AUTH', `database container ${container} refused the credentials of user ${user}`, why);
  }
  if (state !== undefined)
    return new LifeboatError('PG_UNREACHABLE', `database container ${container} refused the connection`, because);
  return new LifeboatError('PG_UNREACHABLE', `database container ${container} does not answer`, {
    cause: error,
    hint:
      tunnelHint(words, connecting) ??
      `Look at \`docker logs ${container}\`; is Postgres up, and does it listen at ${address}?`,
  });
}

/**
 * What to do where the way to the server failed before the server said anything: the helper runs a program of the database's image, which
 * may lack it (status 126 or 127), and opens a Unix socket as the user of that image (unix(7): EACCES).
 */
function tunnelHint(words: string, { container, address }: Connecting): string | undefined {
  if (/executable file not found|ended with status 12[67](?!\d)/.test(words)) {
    return address.includes('/')
      ? `The image of ${container} has no perl, which Lifeboat needs for a Unix socket: install it in the image, or let the server listen on 127.0.0.1 too (listen_addresses).`
      : `The image of ${container} has no bash, which Lifeboat needs to reach the server: install it in the image.`;
  }
  if (address.includes('/') && /Permission denied/.test(words)) {
    return `The user of the image of ${container} may not open the socket: let it in with unix_socket_permissions = 0777 and the rights of the directory, or let the server listen on 127.0.0.1 too (listen_addresses).`;
  }
  return undefined;
}

/**
 * True for a refusal by `pg_hba.conf` (auth.c, ClientAuthentication): another line may let in who encrypts, or who does not. The name of
 * the file stands in the message in each language.
 */
export function isHostRefusal(error: unknown): boolean {
  return sqlState(error) === '28000' && /pg_hba\.conf/.test(wordsOf(error));
}

function wordsOf(error: unknown): string {
  const all: string[] = [];
  for (let e = error; e instanceof Error; e = e.cause) all.push(e.message);
  return all.join('\n');
}
