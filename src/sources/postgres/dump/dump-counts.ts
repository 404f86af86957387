import { errorInfo } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import { type CountPace, countRows, type RefusedCount } from '../facts/count-rows.ts';
import type { DatabaseFacts, TableFacts } from '../facts/facts.ts';
import type { Tables } from '../facts/tables.ts';
import { markUncounted } from '../facts/uncounted.ts';
import type { Session } from '../server/session.ts';

/** A database that was dumped: what is recorded of it, and what people have to know of it. */
export interface DatabaseDump {
  facts: DatabaseFacts;
  warnings: string[];
}

/** Rows that were counted beside a dump. */
export interface Tallied {
  /** To be called when the dump has ended: looks which counts still hold. Resolves to warnings, and never rejects. */
  finish(): Promise<string[]>;
}

/** How many tables a warning names. */
const NAMED = 3;

/**
 * Counts the rows of the tables that are to be counted, in the transaction of the session. Never rejects: the tables that could
 * not be counted are recorded with `exact` false, and told in a warning.
 */
export async function countTables(
  session: Session,
  database: string,
  { tables, markRewritten }: Tables,
  pace: CountPace,
): Promise<Tallied> {
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
    `database ${database}: ${plural(refused.length, 'table')} not counted, so a restore cannot compare the rows; the dump has them: ${listed(named, refused.length)}`,
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

/** What the server said, in a line. */
function describe(error: unknown): string {
  const { message, cause } = errorInfo(error);
  return (cause ?? message).split('\n')[0] as string;
}
