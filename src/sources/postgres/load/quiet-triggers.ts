import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';

/** Turns off triggers in the session, and returns the settings that do so in other sessions; none if the role may not set them. */
export async function quietSettings(session: Session): Promise<string[]> {
  return session.run('SET session_replication_role = replica').then(
    () => ['-c session_replication_role=replica'],
    () => [],
  );
}

/** The clause of ALTER TABLE for each state of an enabled trigger (Postgres docs, pg_trigger: tgenabled). */
const ENABLE = { O: 'ENABLE', A: 'ENABLE ALWAYS', R: 'ENABLE REPLICA' } as const;

/**
 * Disables the triggers of a table, also those with ENABLE ALWAYS. Only the owner of the table may do that.
 *
 * @param table quoted, with its schema
 * @returns a function that restores the state of each trigger
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
