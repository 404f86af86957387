import { unlessAborted } from '../../../base/abort.ts';
import { hasCode } from '../../../base/errors.ts';
import type { Session } from './session.ts';
import { withWatchdog } from './watchdog.ts';

/** A server that is asked now and then whether it is still there. */
export interface AskedServer {
  container: string;
  /** milliseconds without an answer after which whoever waits for it gives up */
  timeoutMs: number;
  /** Resolves once the server answered, whatever it said. May hang. */
  ask(): Promise<void>;
}

/**
 * Runs work that waits for a server, under a signal that aborts with PG_STALLED when the server answers nobody any more: one
 * that is paused keeps its connections open for ever. Work may take as long as it likes while the server answers others.
 */
export function whileAnswering<T>(
  server: AskedServer,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  let looks = 0;
  const answers = async () => {
    looks += 1;
    const look = String(looks);
    // The first look comes at once. Nearly all work has ended before the second, and nobody needs to be asked.
    if (looks > 1) await server.ask();
    return look;
  };
  const { timeoutMs, container } = server;
  const what = `database container ${container}`;
  return withWatchdog({ timeoutMs, intervalMs: timeoutMs / 4, pulses: [answers], signal, what }, work);
}

/** The session, with an end to waiting for each answer. `end` gives up the connection, for the reason that it is given. */
export function answering(session: Session, server: AskedServer, end: (reason: unknown) => void): Session {
  const wait = <T>(query: () => Promise<T>): Promise<T> =>
    whileAnswering(server, new AbortController().signal, (signal) => unlessAborted(query(), signal)).catch(
      (error: unknown) => {
        if (isStall(error)) end(error);
        throw error;
      },
    );
  return {
    database: session.database,
    versionNumber: session.versionNumber,
    all: (sql, values) => wait(() => session.all(sql, values)),
    one: (sql, values) => wait(() => session.one(sql, values)),
    run: (sql) => wait(() => session.run(sql)),
    close: () => session.close(),
  };
}

function isStall(error: unknown): boolean {
  return hasCode(error, 'PG_STALLED');
}
