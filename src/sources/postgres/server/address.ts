import { LifeboatError } from '../../../base/errors.ts';
import type { Mount, PostgresSource } from '../../../plan/model.ts';
import { mountOf } from './helper-mounts.ts';
import type { ContainerServer } from './postmaster.ts';

/** Where a server is reached from within its network namespace. */
export interface ServerAddress {
  /** an IP, a name, or the absolute path of the directory of its Unix socket */
  host: string;
  port: number;
  /** what has to be mounted to reach it */
  socketMount?: Mount;
}

const forGood = new WeakSet<Error>();

/** True for a failure of {@link addressOf} that waiting does not change. */
export function isForGood(error: Error): boolean {
  return forGood.has(error);
}

/**
 * Where to reach the server of a container: where its own record says that it listens, else at the port of its settings on the
 * loopback. One that listens on a Unix socket alone is reached through the volume that holds the socket.
 *
 * Errors: PG_UNREACHABLE where no volume does, or where it does not listen yet.
 */
export function addressOf(source: PostgresSource, { postmaster }: ContainerServer): ServerAddress {
  if (!postmaster) return { host: '127.0.0.1', port: source.port };
  const { listenAddress, port, socketDirectory } = postmaster;
  if (listenAddress !== '') return { host: hostOf(listenAddress), port };
  const container = source.containerName;
  if (socketDirectory === '') {
    throw new LifeboatError('PG_UNREACHABLE', `the server of database container ${container} does not listen yet`, {
      hint: `It is starting, or listens nowhere: look at \`docker logs ${container}\` and at listen_addresses.`,
    });
  }
  const socketMount = mountOf(source.mounts, socketDirectory);
  if (socketMount) return { host: socketDirectory, port, socketMount };
  const hidden = new LifeboatError(
    'PG_UNREACHABLE',
    `database container ${container} listens on no TCP address, and its Unix socket in ${socketDirectory} is in no volume`,
    {
      hint: `Let it listen on 127.0.0.1 (listen_addresses = 'localhost'), or mount a volume at ${socketDirectory}. While a new database is being set up this is so for a moment.`,
    },
  );
  // The entry point of an image sets a database up with a server of its own, and becomes the server only then.
  if (postmaster.lines[0] === '1') forGood.add(hidden);
  throw hidden;
}

/** An address to listen on as one to connect to. */
function hostOf(listenAddress: string): string {
  if (listenAddress === '*' || listenAddress === '0.0.0.0') return '127.0.0.1';
  return listenAddress === '::' ? '::1' : listenAddress;
}

/** An address in messages. */
export function describeAddress({ host, port }: Pick<ServerAddress, 'host' | 'port'>): string {
  if (host.startsWith('/')) return `${host}/.s.PGSQL.${port}`;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
