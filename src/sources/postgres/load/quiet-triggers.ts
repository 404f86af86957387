import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';

/** The settings with which triggers do not fire, for sessions of the same role; none for one that may not set it. */
export async function quietSettings(session: Session): Promise<string[]> {
  return session.run('SET session_replication_role = replica').then(
    () => ['-c session_replication_role=replica'],
    () => [],
  );
}

/** How ALTER TABLE sets each state of a trigger that fires at all (Postgres docs, pg_trigger: tgenabled). */
const ENABLE = { O: 'ENABLE', A: 'ENABLE ALWAYS', R: 'ENABLE REPLICA' } as const;

/**
 * Keeps the triggers of a table that people made from firing, those with ENABLE ALWAYS too. Only the table's owner may.
 *
 * @param table quoted, with its schema
 * @returns gives each trigger the state that it had
 */
export async function disableTriggers(session: Session, table: string): Promise<() => Promise<void>> {
  const triggers = await session.all<{ name: string; state: keyof typeof ENABLE }>(
    `SELECT tgname AS name, tgenabled::text AS state FROM pg_trigger
      WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND tgenabled <> 'D'`,
    [table],
  );
  const alter = async (change: (state: keyof typeof ENABLE) => string) => {
    for (const { name, state } of triggers)
      await session.run(`ALTER TABLE ${table} ${change(state)} TRIGGER ${quoteIdentifier(name)}`);
  };
  await alter(() => 'DISABLE');
  return () => alter((state) => ENABLE[state]);
}
