import { errorInfo, LifeboatError, toLifeboatError } from '../../../base/errors.ts';
import { endOwn } from '../load/swap.ts';
import type { Session } from '../server/session.ts';
import type { LoadTablesOptions } from './load-options.ts';
import type { Shaped } from './table-shape.ts';
import { namesIn } from './taken-names.ts';

/** The most time for looking at the live database, milliseconds. */
const LOOK_LIMIT_MS = 30_000;

/** The outcome of a copy of tables that was cut off. */
type Outcome = 'committed' | 'rolled back' | 'unknown';

/**
 * Finds out whether a copy of tables that was cut off is in the live database after all: a server may complete a COMMIT
 * whose client is gone. Ends the sessions of the run, then asks for the outcome of the transaction. Tables with the
 * same names are no proof, because an application may have created them. Never rejects.
 */
export async function findOutcome(options: LoadTablesOptions, tables: Shaped['tables']): Promise<Outcome> {
  const { tools, target } = options;
  try {
    const control = await tools.control();
    const xids = await transactionsOf(control, tools.connection.application, target);
    await endOwn(control, tools.connection.application);
    const [xid, another] = xids;
    if (xid !== undefined && another === undefined) return outcomeOf(await statusOf(control, xid));
    // The session had ended. The signal of the run may be aborted.
    const live = await tools.session(target, AbortSignal.timeout(LOOK_LIMIT_MS));
    try {
      const names = await namesIn(live, [...new Set(tables.map(({ schema }) => schema))]);
      const areThere = tables.every(({ schema, name }) => names.get(schema)?.has(name));
      return areThere ? 'unknown' : 'rolled back';
    } finally {
      await live.close();
    }
  } catch (error) {
    tools.log.warn('the server does not say whether the tables are restored', { ...errorInfo(error) });
    return 'unknown';
  }
}

/** Returns the ids of the transactions of the run that have written to a database and have not ended. */
async function transactionsOf(control: Session, application: string, database: string): Promise<string[]> {
  const found = await control.all<{ xid: string }>(
    `SELECT backend_xid::text AS xid FROM pg_stat_activity
      WHERE application_name = $1 AND datname = $2 AND backend_xid IS NOT NULL`,
    [application, database],
  );
  return found.map(({ xid }) => xid);
}

/**
 * Returns the status of a recent transaction (Postgres docs, "Transaction ID and Snapshot Information Functions"). The
 * function takes the epoch too, which pg_stat_activity leaves out: the id is below the next one.
 */
async function statusOf(control: Session, xid: string): Promise<string | null> {
  const { status } = await control.one<{ status: string | null }>(
    `SELECT txid_status(next - (((next & 4294967295) - $1::bigint + 4294967296) & 4294967295)) AS status
       FROM (SELECT txid_snapshot_xmax(txid_current_snapshot()) AS next) s`,
    [xid],
  );
  return status;
}

function outcomeOf(status: string | null): Outcome {
  return status === 'committed' ? 'committed' : status === 'aborted' ? 'rolled back' : 'unknown';
}

/** One transaction copies all tables. Foreign keys and places among partitions follow after it. */
export function copyingHint(tables: readonly string[]): string {
  const named = tables.slice(0, 5).join(', ') + (tables.length > 5 ? ` and ${tables.length - 5} more` : '');
  return `${named} may be in the database by now, with all rows, but without foreign keys, or not attached as partitions: check whether they exist, drop them if they do, and start the restore again.`;
}

/** Returns the error of a copy that was cut off and whose outcome is unknown. */
export function unknownOutcome(error: unknown, tables: Shaped['tables']): LifeboatError {
  const { code, message, cause } = toLifeboatError(error);
  const hint = copyingHint(tables.map(({ schema, name }) => `${schema}.${name}`));
  return new LifeboatError(code, message, { cause, hint });
}
