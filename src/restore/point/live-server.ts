import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo } from '../../base/errors.ts';
import type { PostgresSource } from '../../plan/model.ts';
import { type Clients, readClients } from '../../sources/postgres/facts/clients.ts';
import { applicationName } from '../../sources/postgres/postgres-source.ts';
import type { Session } from '../../sources/postgres/server/session.ts';
import { sqlState } from '../../sources/postgres/server/sql-state.ts';
import { formatLsn, parseLsn } from '../../store/wal/names.ts';
import type { RestoreContext, RestoreDeps } from '../context.ts';
import type { ServiceCheck } from '../service-health.ts';

/** The server whose data directory a recovery replaces. */
export interface LiveServer {
  /** path of its data in its container */
  dataDirectory: string;
  versionNumber: number;
  systemId: string;
}

/** The server in use, as a recovery in place reaches it. */
export interface Reaching {
  deps: Pick<RestoreDeps, 'openTools' | 'project' | 'log'>;
  server: PostgresSource;
  context: Pick<RestoreContext, 'id' | 'journal'>;
  signal: AbortSignal;
  say(line: string): void;
}

/** Runs `work` with a session of the server. @throws PG_*, HELPER_FAILED, ENGINE_* */
async function ask<T>(
  { deps, server, context, signal, say }: Reaching,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const { id: runId, journal } = context;
  const application = applicationName(deps.project, runId);
  const tools = await deps.openTools(server, { runId, application, journal, signal, say });
  try {
    return await work(await tools.control());
  } finally {
    await tools.close();
  }
}

/** Like {@link ask}. Returns undefined if the server does not answer: a recovery may be what it needs. */
async function askIfUp<T>(reaching: Reaching, work: (session: Session) => Promise<T>): Promise<T | undefined> {
  try {
    return await ask(reaching, work);
  } catch (error) {
    reaching.signal.throwIfAborted();
    // insufficient_privilege: it does answer.
    if (sqlState(error) === '42501') throw error;
    reaching.deps.log.warn('the server in use does not answer', { source: reaching.server.name, ...errorInfo(error) });
    return undefined;
  }
}

/** Looks at the server in use. Returns undefined if it does not answer. */
export function lookAtServer(reaching: Reaching): Promise<LiveServer | undefined> {
  return askIfUp(reaching, async (session) => {
    const { dataDirectory, systemId } = await session.one<Omit<LiveServer, 'versionNumber'>>(
      `SELECT current_setting('data_directory') AS "dataDirectory",
              (SELECT system_identifier::text FROM pg_control_system()) AS "systemId"`,
    );
    return { dataDirectory, systemId, versionNumber: session.versionNumber };
  });
}

/** Reads who is connected to the databases of the server. Returns nobody if the server does not answer. */
export async function clientsOf(reaching: Reaching): Promise<Clients> {
  const clients = await askIfUp(reaching, async (session) =>
    readClients(session, await session.all<{ name: string }>('SELECT datname::text AS name FROM pg_database')),
  );
  return clients ?? { clients: [], socketDirectories: [] };
}

/** The data that a recovery has made. */
export interface RecoveredServer {
  systemId: string;
  /** the timeline that it writes on */
  timeline: number;
}

/**
 * Looks at the server after it was started on recovered data: it has to be that data.
 *
 * @throws the reason of the signal
 */
export async function lookAtStarted(reaching: Reaching, recovered: RecoveredServer): Promise<ServiceCheck[]> {
  const name = reaching.server.name;
  try {
    const found = await ask(reaching, (session) =>
      session.one<RecoveredServer & { recovering: boolean }>(
        `SELECT pg_is_in_recovery() AS recovering, timeline_id AS timeline, system_identifier::text AS "systemId"
           FROM pg_control_checkpoint(), pg_control_system()`,
      ),
    );
    if (found.recovering) return [{ name, ok: false, detail: 'the server is still in recovery' }];
    if (found.systemId !== recovered.systemId || found.timeline !== recovered.timeline) {
      const detail = `the server runs on other data: on timeline ${found.timeline} of the server ${found.systemId}`;
      return [{ name, ok: false, detail: `${detail}, and not on ${recovered.timeline} of ${recovered.systemId}` }];
    }
    return [{ name, ok: true, detail: `accepts connections, on timeline ${found.timeline}` }];
  } catch (error) {
    reaching.signal.throwIfAborted();
    return [{ name, ok: false, detail: errorInfo(error).message }];
  }
}

/** The last report of the receiver of a source. */
export type StoredEnd = () => Promise<{ state: string; systemId?: string; stored?: string } | undefined>;

const LOOK_MS = 500;

/**
 * Waits until the WAL that the server has written by now is stored, so that times on both sides of the fork can be
 * recovered. Returns whether it is: without a running receiver, the wait ends when the time is up.
 */
export async function waitUntilStored(
  reaching: Reaching,
  stored: StoredEnd,
  { systemId, limitMs }: { systemId: string; limitMs: number },
): Promise<boolean> {
  const position = await askIfUp(reaching, (session) =>
    session.one<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn'),
  );
  if (!position) return false;
  const wanted = parseLsn(position.lsn);
  const until = performance.now() + limitMs;
  for (;;) {
    const state = await stored();
    if (state?.systemId === systemId && state.stored !== undefined && parseLsn(state.stored) >= wanted) return true;
    if (performance.now() > until) {
      reaching.deps.log.info('the WAL of the server in use is not stored yet', { wanted: formatLsn(wanted) });
      return false;
    }
    await sleep(LOOK_MS, undefined, { signal: reaching.signal });
  }
}
