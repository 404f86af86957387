import { unlessAborted } from '../../../base/abort.ts';
import { hasCode } from '../../../base/errors.ts';
import type { Session } from './session.ts';
import { withWatchdog } from './watchdog.ts';

/** A server that is probed regularly. */
export interface ProbedServer {
  container: string;
  /** milliseconds without a response after which waiting ends */
  timeoutMs: number;
  /** Resolves once the server has responded, even with an error. May hang. */
  probe(): Promise<void>;
}

/**
 * Runs work that waits for a server, under a signal that aborts with PG_STALLED when the server no longer responds to
 * probes: a paused server keeps its connections open for ever. The work itself may take any time.
 */
export function whileAnswering<T>(
  server: ProbedServer,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  let probes = 0;
  const answers = async () => {
    probes += 1;
    const probe = String(probes);
    // The watchdog requests the first pulse at once. Most work ends before the second, so the first needs no probe.
    if (probes > 1) await server.probe();
    return probe;
  };
  const { timeoutMs, container } = server;
  const what = `database container ${container}`;
  return withWatchdog({ timeoutMs, intervalMs: timeoutMs / 4, pulses: [answers], signal, what }, work);
}

/**
 * Wraps a session, so that each query throws PG_STALLED when the server no longer responds.
 *
 * @param end closes the connection for a reason
 */
export function answering(session: Session, server: ProbedServer, end: (reason: unknown) => void): Session {
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
