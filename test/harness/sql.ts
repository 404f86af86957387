import pg from 'pg';
import { dockerCall } from './docker.ts';

/** Where {@link askDirectly} connects to. */
export interface Server {
  container: string;
  database: string;
  user: string;
  password: string;
}

/**
 * What psql would print of one statement: unaligned rows without a header. Over a connection from here, since a psql started
 * in the container costs a hundred times as much. Undefined when the server cannot be reached so; SQL errors reject.
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
  // Servers are restarted and killed under it.
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

/** The statement, when there is one alone and psql has no part in it. */
export function oneStatement(sql: string): string | undefined {
  const statement = sql.trim().replace(/;$/, '');
  return /[;\\]|\bstdin\b/i.test(statement) ? undefined : statement;
}
