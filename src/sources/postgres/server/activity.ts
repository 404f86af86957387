import type { Session } from './session.ts';

/**
 * What an active backend may wait for and make no progress: locks, a client that takes nothing, other processes (a parallel worker
 * that does something is active itself), what an extension waits for (Postgres docs, "Wait Event Types").
 */
const WAITS = ['Lock', 'BufferPin', 'Client', 'IPC', 'Extension'];

/**
 * The sessions of an application as text that changes while the server works for them: when one begins or ends a statement, and at
 * each call while one executes and waits for none of {@link WAITS}. One statement may take hours: building an index, checking a
 * foreign key.
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
