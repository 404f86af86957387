import type { Session } from '../server/session.ts';

/** The sessions of one client in the databases of a server. */
export interface Client {
  /** IP address; null for a Unix socket, and if the role may not see it */
  address: string | null;
  application: string;
  role: string;
  database: string;
  /** the role may not see the address */
  hidden?: true;
}

/** The clients of some databases. */
export interface Clients {
  clients: Client[];
  /** directories of the server's Unix sockets, in its container */
  socketDirectories: string[];
}

/** The default of Debian and Alpine packages. */
const SOCKET_DIRECTORY = '/var/run/postgresql';

/**
 * Reads who is connected to some databases, without the sessions of Lifeboat. A role that is not a member of
 * pg_read_all_stats sees no address of other roles' sessions (Postgres docs, "The Cumulative Statistics System").
 */
export async function readClients(session: Session, databases: readonly { name: string }[]): Promise<Clients> {
  // Without the column, background processes are those without a role (Postgres docs, E.3.3, release 10).
  const [hidden, isClient] =
    session.versionNumber >= 100_000
      ? ['backend_type IS NULL', "coalesce(backend_type, 'client backend') = 'client backend'"]
      : ["query = '<insufficient privilege>'", 'usename IS NOT NULL'];
  const rows = await session.all<Omit<Client, 'hidden'> & { hidden: string }>(
    `SELECT DISTINCT host(client_addr) AS address, coalesce(application_name, '') AS application,
            coalesce(usename::text, '') AS role, datname::text AS database, (${hidden})::int::text AS hidden
       FROM pg_stat_activity
      WHERE datname::text = ANY($1) AND pid <> pg_backend_pid() AND ${isClient}
        AND coalesce(application_name, '') !~ '^lifeboat [0-9a-f]{6} '
      ORDER BY 1, 2, 3, 4`,
    [databases.map(({ name }) => name)],
  );
  const [setting] = await session.all<{ setting: string }>(
    "SELECT setting FROM pg_settings WHERE name = 'unix_socket_directories'",
  );
  const directories = (setting?.setting ?? SOCKET_DIRECTORY).split(',').map((one) => one.trim().replaceAll('"', ''));
  return {
    clients: rows.map(({ hidden, ...row }) => (hidden === '1' ? { ...row, hidden: true } : row)),
    // An abstract socket (@…) is reachable only inside the network namespace.
    socketDirectories: directories.filter((one) => one.startsWith('/')),
  };
}
