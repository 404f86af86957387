import type { Duplex } from 'node:stream';
import type { Client } from 'pg';
import { onAbort } from '../../../base/abort.ts';
import { LifeboatError } from '../../../base/errors.ts';
import { type Connecting, connectError } from './connect-error.ts';
import { sqlState } from './sql-state.ts';

/** Opens a byte stream to the server's port: a tunnel through the helper. */
type Dial = (signal: AbortSignal) => Promise<Duplex>;

interface SessionOptions extends Connecting {
  dial: Dial;
  password?: string | undefined;
  application: string;
  /** encrypts, and accepts any certificate: the connection stays in the network namespace of the server */
  tls?: boolean;
  /** another server may respond, so the password is not sent in clear text or hashed with MD5 (Postgres docs, 20.5) */
  guarded?: boolean;
  /** settings for the start of the session, as in PGOPTIONS; see {@link SessionStart} */
  start: string;
  signal: AbortSignal;
}

/** The most time for opening a session, milliseconds. */
const CONNECT_TIMEOUT_MS = 30_000;

/** Hint for a role that lacks rights to read. */
export const MISSING_RIGHTS_HINT =
  'Grant the role pg_read_all_data, or let Lifeboat use a superuser (LIFEBOAT_PGUSER).';

/** An SQL session. Throws errors with the codes PG_AUTH, PG_UNREACHABLE, PG_DATABASE_UNKNOWN, PG_QUERY. */
export interface Session {
  readonly database: string;
  readonly versionNumber: number;
  all<T extends object>(sql: string, values?: unknown[]): Promise<T[]>;
  /** Returns exactly one row. @throws PG_QUERY if there are more or none */
  one<T extends object>(sql: string, values?: unknown[]): Promise<T>;
  run(sql: string): Promise<void>;
  /** Never rejects. */
  close(): Promise<void>;
}

/**
 * Settings of every session after its start. Names resolve only in pg_catalog, so a malicious function in `public` is
 * never called. Rows hidden by row-level security cause an error instead of being missed.
 */
const SETTINGS: readonly [since: number, sql: string][] = [
  [0, 'SET search_path = pg_catalog'],
  // SQL_ASCII holds arbitrary bytes, which the server refuses to convert to UTF-8 (Postgres docs, 23.3.3).
  [
    0,
    `SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false)
      WHERE pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.=) 'SQL_ASCII'`,
  ],
  [0, 'SET row_security = off'],
  [140000, "SET client_connection_check_interval = '10s'"],
];

/** Requests for a password in a form that the server could use elsewhere, as events of `pg`'s connection. */
const WEAK_REQUESTS = [
  ['authenticationCleartextPassword', 'in clear text'],
  ['authenticationMD5Password', 'hashed with MD5'],
] as const;

function weakRequest(form: string, { container, address, user }: Connecting): LifeboatError {
  return new LifeboatError('PG_AUTH', `the server at ${address} requests the password of ${user} ${form}`, {
    hint: `${container} shares its network or its socket with others, so another server may respond there: it could read a password in clear text, and use an MD5 hash to log in. With scram-sha-256 it learns nothing. Set password_encryption to scram-sha-256, set the password of the role again (ALTER ROLE ${user} PASSWORD …), and name scram-sha-256 in pg_hba.conf; or give ${container} a network of its own.`,
  });
}

/**
 * Opens a session.
 *
 * @throws PG_UNREACHABLE, also for a server that is starting or stopping; PG_AUTH, PG_DATABASE_UNKNOWN, INTERRUPTED
 */
export async function openSession(options: SessionOptions): Promise<Session> {
  const { signal } = options;
  // Loaded on first use, so that an idle agent does not need the memory.
  const { Client } = await import('pg');
  const stream = await options.dial(signal);
  let asked: string | undefined;
  const client = new Client({
    stream: () => stream,
    user: options.user,
    // A function, because without a password pg searches files of this container for one, and prints a deprecation
    // warning.
    password: async () => {
      if (asked && options.guarded && options.password) throw weakRequest(asked, options);
      return options.password ?? '';
    },
    database: options.database,
    application_name: options.application,
    options: options.start,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    client_encoding: 'UTF8',
    ssl: options.tls ? { rejectUnauthorized: false } : false,
  });
  for (const [event, form] of WEAK_REQUESTS) client.connection.on(event, () => (asked = form));
  let broken: Error | undefined;
  // Without a listener, a connection that breaks between two queries would cause an uncaught exception.
  client.on('error', (error: Error) => {
    broken = error;
  });
  const forget = onAbort(signal, () => stream.destroy(new LifeboatError('INTERRUPTED', 'the run was asked to stop')));
  // A paused server may accept the connection and send nothing.
  const late = setTimeout(() => stream.destroy(new Error('no answer')), CONNECT_TIMEOUT_MS);
  try {
    await client.connect();
    const version = Number((await client.query('SHOW server_version_num')).rows[0]?.server_version_num);
    await client.query(
      SETTINGS.filter(([since]) => version >= since)
        .map(([, sql]) => sql)
        .join('; '),
    );
    return new ClientSession({ client, stream, forget, broken: () => broken, options }, version);
  } catch (error) {
    forget();
    stream.destroy();
    throw connectError(signal.aborted ? signal.reason : (broken ?? error), options);
  } finally {
    clearTimeout(late);
  }
}

/** An open connection. */
interface Connection {
  client: Client;
  stream: Duplex;
  /** Stops listening to the signal of the run. */
  forget(): void;
  /** Returns why the connection broke, if it did. */
  broken(): Error | undefined;
  options: SessionOptions;
}

class ClientSession implements Session {
  readonly database: string;
  readonly versionNumber: number;
  private readonly connection: Connection;
  private last: Promise<unknown> = Promise.resolve();

  constructor(connection: Connection, versionNumber: number) {
    this.connection = connection;
    this.database = connection.options.database;
    this.versionNumber = versionNumber;
  }

  async all<T extends object>(sql: string, values?: unknown[]): Promise<T[]> {
    const { client, broken, options } = this.connection;
    try {
      // One query at a time: pg warns of a second query while one runs, and future versions will refuse it.
      const answer = this.last.then(() => {
        const reason = broken();
        if (reason) throw reason;
        return client.query<T>(sql, values);
      });
      this.last = answer.catch(() => undefined);
      return (await answer).rows;
    } catch (error) {
      throw queryError(options.signal.aborted ? options.signal.reason : error, options.container);
    }
  }

  async one<T extends object>(sql: string, values?: unknown[]): Promise<T> {
    const rows = await this.all<T>(sql, values);
    if (rows.length === 1) return rows[0] as T;
    const { container } = this.connection.options;
    throw new LifeboatError('PG_QUERY', `expected one row from ${container}, got ${rows.length}`);
  }

  async run(sql: string): Promise<void> {
    await this.all(sql);
  }

  async close(): Promise<void> {
    const { client, stream, forget } = this.connection;
    forget();
    const ended = client.end().catch(() => undefined);
    // A paused server never confirms the end of the connection.
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
    stream.destroy();
  }
}

/**
 * Returns true if the server reports that one database cannot be used, while others may be: it is closed (55000) or
 * damaged (classes XX and 58; 22023 and 3D000 if files are missing). 3D000 also means that the database does not exist.
 * See the Postgres docs, appendix A, and postinit.c.
 */
export function isUnusable(error: unknown): boolean {
  return /^(55000|XX|58|22023|3D000)/.test(sqlState(error) ?? '');
}

function queryError(error: unknown, container: string): LifeboatError {
  if (error instanceof LifeboatError) return error;
  const state = sqlState(error);
  // 57P01..57P03 or a broken stream: the server ended during the query.
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
