import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { hasErrno, LifeboatError } from '../base/errors.ts';

/** The message to the holder of the lock. */
const ASKING = 'wanted';

/** The time limit for the message, milliseconds. */
const ASKING_MS = 1000;

/** The hint for a copy that gives way. */
export const MAKES_ROOM = 'The next run continues where it stopped; so does `lifeboat copy`.';

/** A held lock. The kernel releases it when the process ends, however it ends. */
export interface Lock {
  /**
   * Returns a signal that aborts with INTERRUPTED when another process asks for the lock from now on. Work that can
   * wait ends then.
   */
  whenWanted?(): AbortSignal;
  release(): Promise<void>;
}

/**
 * Takes the lock that separates two runs of one agent: the daemon's, and one started by `docker compose exec`. The lock
 * is a listening socket in the abstract namespace of the container's network (unix(7)). Two processes cannot have the
 * same name, and a killed process leaves nothing behind.
 *
 * @param ask whether to ask a process that holds the lock to give way
 * @throws LOCKED when another process holds it
 */
export async function takeLock(name: string, { ask = false } = {}): Promise<Lock> {
  const listening = new Set<AbortController>();
  const server = createServer((socket) => {
    socket.unref();
    socket.on('error', () => undefined).setTimeout(ASKING_MS, () => socket.destroy());
    // `isLocked` connects too, and sends nothing.
    socket.once('data', () => {
      const why = new LifeboatError('INTERRUPTED', 'it is not complete, and another command waits', {
        hint: MAKES_ROOM,
      });
      for (const one of listening) one.abort(why);
      socket.destroy();
    });
  });
  const address = addressOf(name);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, resolve);
  }).catch((error: unknown) => {
    if (!hasErrno(error, 'EADDRINUSE')) throw error;
    if (ask)
      connect(address)
        .on('error', () => undefined)
        .end(ASKING)
        .unref();
    // Without the system's error, which names the socket and not the run.
    throw new LifeboatError('LOCKED', 'another run is under way', {
      hint: 'Wait until it has ended (`lifeboat status` shows it), then try again.',
    });
  });
  server.unref();
  return {
    whenWanted() {
      const one = new AbortController();
      listening.add(one);
      return one.signal;
    },
    release: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** Resolves to whether any process holds the lock. */
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
