import { errorInfo } from '../../../base/errors.ts';
import { endOwn } from '../load/swap.ts';
import type { Session } from '../server/session.ts';
import type { LoadTablesOptions } from './load-options.ts';
import { quoteName } from './table-names.ts';
import type { Shaped } from './table-shape.ts';
import { namesIn } from './taken-names.ts';

/** The most time for looking at the live database, milliseconds. */
const LOOK_LIMIT_MS = 30_000;

/**
 * Returns whether a copy of tables that was cut off is in the live database after all: a server may complete a COMMIT
 * whose client is gone. Ends the sessions of the run first, so that the answer is final. False, and logged, if the
 * server does not say. Never rejects.
 */
export async function wasCommitted(options: LoadTablesOptions, tables: Shaped['tables']): Promise<boolean> {
  const { tools, target } = options;
  try {
    await endOwn(await tools.control(), tools.connection.application);
    // The signal of the run may be aborted.
    const live = await tools.session(target, AbortSignal.timeout(LOOK_LIMIT_MS));
    try {
      return await holds(live, options, tables);
    } finally {
      await live.close();
    }
  } catch (error) {
    tools.log.warn('the server does not say whether the tables are restored', { ...errorInfo(error) });
    return false;
  }
}

/** Somebody else may have made tables with these names. Those that an application makes are empty, or nearly so. */
async function holds(live: Session, { recorded }: LoadTablesOptions, tables: Shaped['tables']): Promise<boolean> {
  const names = await namesIn(live, [...new Set(tables.map(({ schema }) => schema))]);
  if (!tables.every(({ schema, name }) => names.get(schema)?.has(name))) return false;
  const facts = new Map(recorded.tables.map((table) => [quoteName(table), table]));
  for (const table of tables) {
    const before = facts.get(quoteName(table.chosen));
    if (!before?.exact || before.data === false) continue;
    const { rows } = await live.one<{ rows: string }>(`SELECT count(*)::text AS rows FROM ONLY ${quoteName(table)}`);
    // Applications may write to it already.
    if (Number(rows) < before.rows) return false;
  }
  return true;
}
