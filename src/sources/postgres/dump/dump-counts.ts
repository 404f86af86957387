import { errorInfo } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import { type CountPace, countRows, type RefusedCount } from '../facts/count-rows.ts';
import type { DatabaseFacts, TableFacts } from '../facts/facts.ts';
import type { Tables } from '../facts/tables.ts';
import { markUncounted } from '../facts/uncounted.ts';
import type { Session } from '../server/session.ts';

/** The facts and warnings about a dumped database. */
export interface DatabaseDump {
  facts: DatabaseFacts;
  warnings: string[];
  /** ids of the entries in its table of contents */
  dumpIds: ReadonlySet<number>;
}

/** The row counts that were taken during a dump. */
interface CountedRows {
  /** Checks which counts are still valid, and returns warnings. Call it when the dump has ended. Never rejects. */
  finish(): Promise<string[]>;
}

/** The most tables that a warning names. */
const NAMED = 3;

/**
 * Counts the rows of the tables with `exact`, in the transaction of the session. Never rejects: tables that could not
 * be counted are recorded with `exact` false and reported in a warning.
 */
export async function countTables(
  session: Session,
  database: string,
  { tables, markRewritten }: Tables,
  pace: CountPace,
): Promise<CountedRows> {
  const warnings = unloggedWarning(database, tables);
  const giveUp = (error: unknown) => {
    for (const table of tables) markUncounted(table, 'refused');
    const why = describe(error);
    return [`database ${database}: its rows are not counted, so a restore cannot compare them: ${why}`];
  };
  try {
    const counted = tables.filter(({ exact }) => exact);
    const refused = await countRows(session, counted, { pace });
    warnings.push(...refusedWarning(database, refused));
  } catch (error) {
    const lost = [...warnings, ...giveUp(error)];
    return { finish: async () => lost };
  }
  return {
    finish: () =>
      markRewritten().then(
        () => warnings,
        (error: unknown) => [...warnings, ...giveUp(error)],
      ),
  };
}

function refusedWarning(database: string, refused: readonly RefusedCount[]): string[] {
  if (refused.length === 0) return [];
  const named = refused
    .slice(0, NAMED)
    .map(({ table: { schema, name }, error }) => `${schema}.${name} (${describe(error)})`);
  return [
    `database ${database}: ${plural(refused.length, 'table')} not counted, so a restore cannot compare the rows, although the dump has them: ${listed(named, refused.length)}`,
  ];
}

function unloggedWarning(database: string, tables: readonly TableFacts[]): string[] {
  const unlogged = tables.filter(({ unloggedOnStandby }) => unloggedOnStandby);
  if (unlogged.length === 0) return [];
  const named = unlogged.slice(0, NAMED).map(({ schema, name }) => `${schema}.${name}`);
  return [
    `database ${database}: this server is a standby, which has no rows of unlogged tables, so ${plural(unlogged.length, 'table')} stored empty: ${listed(named, unlogged.length)}`,
  ];
}

function listed(named: readonly string[], count: number): string {
  return [...named, ...(count > named.length ? [`${count - named.length} more`] : [])].join(', ');
}

/** Returns the first line of the server's message. */
function describe(error: unknown): string {
  const { message, cause } = errorInfo(error);
  return (cause ?? message).split('\n')[0] as string;
}
