import type { Session } from './session.ts';

/**
 * Types of wait events during which an active backend makes no progress: it waits for a lock, for a client that reads
 * nothing, for another process (a parallel worker with work to do is active itself), or for an extension. See "Wait
 * Event Types" in the Postgres docs.
 */
const WAITS = ['Lock', 'BufferPin', 'Client', 'IPC', 'Extension'];

/**
 * Returns a text that changes while the server works for the sessions of an application. It changes when a session
 * begins or ends a statement, and with each call while a session executes one without waiting for any of {@link WAITS}.
 * A single statement may take hours, for example to build an index or to check a foreign key.
 */
export async function readActivity(session: Session, application: string): Promise<string> {
  const waiting = WAITS.map((type) => `'${type}'`).join(', ');
  const { state, working } = await session.one<{ state: string | null; working: string | null }>(
    `SELECT string_agg(concat_ws(' ', pid, state, query_start, state_change), ',' ORDER BY pid) AS state,
            CASE WHEN bool_or(state IN ('active', 'fastpath function call')
                              AND coalesce(wait_event_type, '') NOT IN (${waiting}))
                 THEN clock_timestamp()::text END AS working
       FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()`,
    [application],
  );
  return [state ?? '', working ?? ''].join(' ');
}
