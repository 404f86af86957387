import { LifeboatError } from '../../../base/errors.ts';
import type { Mount, PostgresSource } from '../../../plan/model.ts';
import { mountOf } from './helper-mounts.ts';
import type { ContainerServer } from './postmaster.ts';

/** The address of a server from within its network namespace. */
export interface ServerAddress {
  /** an IP address, a name, or the absolute path of the directory of its Unix socket */
  host: string;
  port: number;
  /** the mount that a helper needs to reach it */
  socketMount?: Mount;
}

const permanent = new WeakSet<Error>();

/** Marks an error that waiting does not resolve, and returns it. */
export function markPermanent<E extends Error>(error: E): E {
  permanent.add(error);
  return error;
}

/** Returns true for an error that {@link markPermanent} has marked. */
export function isPermanent(error: Error): boolean {
  return permanent.has(error);
}

/**
 * Returns the address of the server of a container: the address in `postmaster.pid`, else the configured port on the
 * loopback address. A server that only listens on a Unix socket is reached through the volume that holds the socket.
 *
 * @throws PG_UNREACHABLE if no volume holds the socket, or if the server does not listen yet
 */
export function addressOf(source: PostgresSource, { postmaster }: ContainerServer): ServerAddress {
  if (!postmaster) return { host: '127.0.0.1', port: source.port };
  const { listenAddress, port, socketDirectory } = postmaster;
  if (listenAddress !== '') return { host: hostOf(listenAddress), port };
  const container = source.containerName;
  if (socketDirectory === '') {
    throw new LifeboatError('PG_UNREACHABLE', `the server of database container ${container} does not listen yet`, {
      hint: `It is starting, or has no address to listen on: check \`docker logs ${container}\` and listen_addresses.`,
    });
  }
  const socketMount = mountOf(source.mounts, socketDirectory);
  if (socketMount) return { host: socketDirectory, port, socketMount };
  const hidden = new LifeboatError(
    'PG_UNREACHABLE',
    `database container ${container} listens on no TCP address, and its Unix socket in ${socketDirectory} is in no volume`,
    {
      hint: `Let it listen on 127.0.0.1 (listen_addresses = 'localhost'), or mount a volume at ${socketDirectory}. While a new database is being created, this is a temporary state.`,
    },
  );
  // The entry point of an image first creates the database with a temporary server. The final server has process id 1.
  if (postmaster.lines[0] === '1') markPermanent(hidden);
  throw hidden;
}

/** Converts an address that a server listens on to one that a client connects to. */
function hostOf(listenAddress: string): string {
  if (listenAddress === '*' || listenAddress === '0.0.0.0') return '127.0.0.1';
  return listenAddress === '::' ? '::1' : listenAddress;
}

/** Formats an address for messages. */
export function describeAddress({ host, port }: Pick<ServerAddress, 'host' | 'port'>): string {
  if (host.startsWith('/')) return `${host}/.s.PGSQL.${port}`;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
