import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { hasErrno, LifeboatError } from '../base/errors.ts';

/** What is said to whoever holds the lock. */
const ASKING = 'wanted';

/** How long that may take, milliseconds. */
const ASKING_MS = 1000;

/** What becomes of the copy that has to wait. */
export const MAKES_ROOM = 'The next run goes on where it stopped; so does `lifeboat copy`.';

/** A held lock. The kernel lets go of it when the process ends, however it ends. */
export interface Lock {
  /** A signal that aborts, with INTERRUPTED, when somebody asks for the lock from now on: what can wait makes room then. */
  whenWanted?(): AbortSignal;
  release(): Promise<void>;
}

/**
 * Takes the lock that keeps two runs of one agent apart: the daemon's and one started by `docker compose exec`. It is a
 * listening socket in the abstract namespace of the container's network (unix(7)): two processes cannot have the same
 * name, and nothing is left behind by a process that was killed.
 *
 * `ask`: if another process holds it, tell that one that somebody waits.
 *
 * Errors: LOCKED when another process holds it.
 */
export async function takeLock(name: string, { ask = false } = {}): Promise<Lock> {
  const listening = new Set<AbortController>();
  const server = createServer((socket) => {
    socket.unref();
    socket.on('error', () => undefined).setTimeout(ASKING_MS, () => socket.destroy());
    // Whoever only looks whether the lock is held says nothing.
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
    throw new LifeboatError('LOCKED', 'another run is under way', {
      cause: error,
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
