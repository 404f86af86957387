import type { Duplex } from 'node:stream';
import type { Client } from 'pg';
import { LifeboatError } from '../../errors.ts';

/** Opens a byte stream to the server's port: a tunnel through the helper. */
export type Dial = (signal: AbortSignal) => Promise<Duplex>;

export interface SessionOptions {
  dial: Dial;
  user: string;
  password?: string;
  database: string;
  application: string;
  /** settings to start the session with, as in PGOPTIONS */
  start?: string;
  /** names the container in errors */
  container: string;
  signal: AbortSignal;
}

/** How long a server may take until a session is open. */
const CONNECT_TIMEOUT_MS = 30_000;

/** What to do about a role that may not read what it must. */
export const MISSING_RIGHTS_HINT = 'Give the role pg_read_all_data, or let Lifeboat use a superuser (LIFEBOAT_PGUSER).';

/** One SQL session of ours. Errors come out coded: PG_AUTH, PG_UNREACHABLE, PG_DATABASE_UNKNOWN, PG_QUERY. */
export interface Session {
  readonly database: string;
  readonly versionNumber: number;
  all<T extends object>(sql: string, values?: unknown[]): Promise<T[]>;
  /** exactly one row */
  one<T extends object>(sql: string, values?: unknown[]): Promise<T>;
  run(sql: string): Promise<void>;
  /** Never rejects. */
  close(): Promise<void>;
}

/**
 * Settings of every session of ours: names resolve in pg_catalog alone (a function planted in `public` is never called),
 * rows hidden by row-level security are an error instead of being missed, no timeout of the role ends a long dump, and a database
 * whose setting makes every session a reader can be cleared away.
 */
const SETTINGS: readonly [since: number, sql: string][] = [
  [0, 'SET search_path = pg_catalog'],
  // SQL_ASCII holds bytes of any kind; read as UTF-8 they would be refused (Postgres docs, 23.3.3).
  [
    0,
    `SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false)
      WHERE pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.=) 'SQL_ASCII'`,
  ],
  [0, 'SET row_security = off'],
  [0, 'SET default_transaction_read_only = off'],
  [0, 'SET statement_timeout = 0'],
  [0, 'SET lock_timeout = 0'],
  [0, 'SET idle_in_transaction_session_timeout = 0'],
  [140000, 'SET idle_session_timeout = 0'],
  [140000, "SET client_connection_check_interval = '10s'"],
  [170000, 'SET transaction_timeout = 0'],
];

/** Connects. `PG_UNREACHABLE` covers a server that is starting, stopping or not listening. */
export async function openSession(options: SessionOptions): Promise<Session> {
  const { container, signal } = options;
  // Loaded when it is used: an idle agent does without.
  const { Client } = await import('pg');
  const stream = await options.dial(signal);
  const client = new Client({
    stream: () => stream,
    user: options.user,
    password: options.password ?? '',
    database: options.database,
    application_name: options.application,
    ...(options.start === undefined ? {} : { options: options.start }),
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    client_encoding: 'UTF8',
  });
  let broken: Error | undefined;
  // Without a listener a connection that dies between two queries is an uncaught exception.
  client.on('error', (error: Error) => {
    broken = error;
  });
  const abort = () => stream.destroy(new LifeboatError('INTERRUPTED', 'the run was asked to stop'));
  signal.addEventListener('abort', abort, { once: true });
  // A server that is paused may accept the connection and say nothing more.
  const late = setTimeout(() => stream.destroy(new Error('no answer')), CONNECT_TIMEOUT_MS);
  try {
    await client.connect();
    const version = Number((await client.query('SHOW server_version_num')).rows[0]?.server_version_num);
    await client.query(
      SETTINGS.filter(([since]) => version >= since)
        .map(([, sql]) => sql)
        .join('; '),
    );
    return sessionOf(client, version);
  } catch (error) {
    signal.removeEventListener('abort', abort);
    stream.destroy();
    throw connectError(signal.aborted ? signal.reason : (broken ?? error), options);
  } finally {
    clearTimeout(late);
  }

  function sessionOf(connected: Client, versionNumber: number): Session {
    const all = async <T extends object>(sql: string, values?: unknown[]): Promise<T[]> => {
      try {
        if (broken) throw broken;
        return (await connected.query<T>(sql, values)).rows;
      } catch (error) {
        throw queryError(signal.aborted ? signal.reason : error, container);
      }
    };
    return {
      database: options.database,
      versionNumber,
      all,
      async one<T extends object>(sql: string, values?: unknown[]) {
        const rows = await all<T>(sql, values);
        if (rows.length !== 1)
          throw new LifeboatError('PG_QUERY', `expected one row from ${container}, got ${rows.length}`);
        return rows[0] as T;
      },
      async run(sql) {
        await all(sql);
      },
      async close() {
        signal.removeEventListener('abort', abort);
        const ended = connected.end().catch(() => undefined);
        // A server that is paused never answers the goodbye.
        await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
        stream.destroy();
      },
    };
  }
}

/** The five-letter SQLSTATE of an error from the server, or undefined. */
export function sqlState(error: unknown): string | undefined {
  for (let e = error; e instanceof Error; e = e.cause as Error) {
    if ('code' in e && typeof e.code === 'string' && /^[0-9A-Z]{5}$/.test(e.code) && 'severity' in e) return e.code;
  }
  return undefined;
}

/** What a server answered a statement that it refused; undefined for an error that is no answer of the server. */
export function serverWords(error: unknown): string | undefined {
  for (let e = error; e instanceof Error; e = e.cause as Error) if ('severity' in e) return e.message;
  return undefined;
}

/**
 * True when a server says that one of its databases cannot be used, while others may: it is closed (55000), or damaged: classes
 * XX and 58, and 22023 and 3D000 where files of it are missing (Postgres docs, appendix A; postinit.c). 3D000 also stands for a
 * database that is not there at all.
 */
export function isUnusable(error: unknown): boolean {
  return /^(55000|XX|58|22023|3D000)/.test(sqlState(error) ?? '');
}

function connectError(error: unknown, options: SessionOptions): LifeboatError {
  if (error instanceof LifeboatError && error.code === 'INTERRUPTED') return error;
  const { container, database, user } = options;
  const state = sqlState(error);
  if (state === '3D000') {
    return new LifeboatError('PG_DATABASE_UNKNOWN', `database container ${container} has no database ${database}`, {
      cause: error,
      hint: 'Name a database that exists in lifeboat.postgres.databases or POSTGRES_DB.',
    });
  }
  if (state?.startsWith('28') || (error instanceof Error && /password|SASL|SCRAM/i.test(error.message))) {
    return new LifeboatError('PG_AUTH', `database container ${container} refused the credentials of user ${user}`, {
      cause: error,
      hint: 'POSTGRES_PASSWORD only counts when the data directory is first created: set the password that the role has now in LIFEBOAT_PGPASSWORD (and its name in LIFEBOAT_PGUSER).',
    });
  }
  return new LifeboatError('PG_UNREACHABLE', `database container ${container} does not answer`, {
    cause: error,
    hint: `Look at \`docker logs ${container}\`; is Postgres up, and on the port that PGPORT says?`,
  });
}

function queryError(error: unknown, container: string): LifeboatError {
  if (error instanceof LifeboatError) return error;
  const state = sqlState(error);
  // 57P01..57P03 and a broken stream: the server went away under the query.
  if (state === undefined || state.startsWith('57P') || state.startsWith('08')) {
    return new LifeboatError('PG_UNREACHABLE', `database container ${container} closed the connection`, {
      cause: error,
    });
  }
  const hint = state === '42501' ? MISSING_RIGHTS_HINT : undefined;
  return new LifeboatError(
    'PG_QUERY',
    `a query on ${container} failed`,
    hint ? { cause: error, hint } : { cause: error },
  );
}
