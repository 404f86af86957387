import { setTimeout as sleep } from 'node:timers/promises';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';
import type { Tools } from '../server/tools.ts';

/** The number of attempts to drop a database while sessions reconnect, and the pause between them, milliseconds. */
const DROP_ATTEMPTS = 30;
const RETRY_MS = 100;

/**
 * Drops a database, if it exists. First removes everything for which Postgres refuses to drop it: sessions, the
 * template flag, active logical decoding, and subscriptions.
 *
 * @returns the dropped subscriptions; the replication slot of each on its publisher stays
 */
export async function dropDatabase(tools: Tools, name: string, signal: AbortSignal): Promise<string[]> {
  const control = await tools.control(name);
  const subscriptions = await control.all<{ name: string }>(
    `SELECT subname AS name FROM pg_subscription
      WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = $1) ORDER BY 1`,
    [name],
  );
  const names = subscriptions.map((subscription) => subscription.name);
  if (names.length > 0) await dropSubscriptions(tools, name, names, signal);
  const [template] = await control.all('SELECT FROM pg_database WHERE datname = $1 AND datistemplate', [name]);
  if (template) await control.run(`ALTER DATABASE ${quoteIdentifier(name)} IS_TEMPLATE false`);
  for (let attempt = 1; ; attempt++) {
    try {
      // FORCE does not end walsenders.
      await endWalsenders(control, name);
      await control.run(`DROP DATABASE IF EXISTS ${quoteIdentifier(name)} WITH (FORCE)`);
      return names;
    } catch (error) {
      if (sqlState(error) !== '55006' || attempt === DROP_ATTEMPTS) throw error;
    }
    await sleep(RETRY_MS, undefined, { signal });
  }
}

async function endWalsenders(control: Session, name: string): Promise<void> {
  await control.all(
    `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
      WHERE database = $1 AND active_pid IS NOT NULL`,
    [name],
  );
}

/**
 * Drops subscriptions without contacting their publishers, which may be down, or whose slots another subscriber may
 * use.
 */
async function dropSubscriptions(
  tools: Tools,
  database: string,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const session = await tools.session(database, signal);
  try {
    for (const name of names.map(quoteIdentifier)) {
      await session.run(`ALTER SUBSCRIPTION ${name} DISABLE`);
      await session.run(`ALTER SUBSCRIPTION ${name} SET (slot_name = NONE)`);
      await session.run(`DROP SUBSCRIPTION ${name}`);
    }
  } finally {
    await session.close();
  }
}
