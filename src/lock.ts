import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { hasErrno, LifeboatError } from './errors.ts';

/** A held lock. The kernel lets go of it when the process ends, however it ends. */
export interface Lock {
  release(): Promise<void>;
}

/**
 * Takes the lock that keeps two runs of one agent apart: the daemon's and one started by `docker compose exec`. It is a
 * listening socket in the abstract namespace of the container's network (unix(7)): two processes cannot have the same
 * name, and nothing is left behind by a process that was killed.
 *
 * Errors: LOCKED when another process holds it.
 */
export async function takeLock(name: string): Promise<Lock> {
  const server = createServer((socket) => socket.destroy());
  const address = addressOf(name);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, resolve);
  }).catch((error: unknown) => {
    if (!hasErrno(error, 'EADDRINUSE')) throw error;
    throw new LifeboatError('LOCKED', 'another run is under way', {
      cause: error,
      hint: 'Wait until it has ended (`lifeboat status` shows it), then try again.',
    });
  });
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** True while another process, or this one, holds the lock. */
export async function isLocked(name: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(addressOf(name));
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

function addressOf(name: string): string {
  return `\0lifeboat-${createHash('sha256').update(name).digest('hex').slice(0, 32)}`;
}
