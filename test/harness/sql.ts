import pg from 'pg';
import { dockerCall } from './docker.ts';

/** The server that {@link askDirectly} connects to. */
export interface Server {
  container: string;
  database: string;
  user: string;
  password: string;
}

/**
 * Returns the output that psql would print for one statement: unaligned rows without a header. Connects from here,
 * because starting a psql in the container costs a hundred times as much. Returns undefined if the server cannot be
 * reached this way. SQL errors reject.
 */
export async function askDirectly({ container, ...login }: Server, statement: string): Promise<string | undefined> {
  const inspected = await dockerCall(['inspect', '--format', '{{json .NetworkSettings.Networks}}', container]);
  if (inspected?.code !== 0) return;
  const networks = Object.values(JSON.parse(inspected.stdout) as Record<string, { IPAddress: string }>);
  const host = networks.find(({ IPAddress }) => IPAddress !== '')?.IPAddress;
  if (host === undefined) return;
  const client = new pg.Client({
    ...{ ...login, host, connectionTimeoutMillis: 5000, application_name: 'psql' },
    types: { getTypeParser: () => (value: string) => value } as never,
  });
  // Tests restart and kill the server during a connection.
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch {
    return;
  }
  try {
    const { rows } = await client.query<string[]>({ text: statement, rowMode: 'array' });
    return rows.map((row) => row.map((value) => value ?? '').join('|')).join('\n');
  } finally {
    await client.end();
  }
}

/** Returns the statement if it is the only one, and psql is not involved in it. */
export function oneStatement(sql: string): string | undefined {
  const statement = sql.trim().replace(/;$/, '');
  return /[;\\]|\bstdin\b/i.test(statement) ? undefined : statement;
}
