import { plural } from '../../../report/format.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { isRefusal } from './count-rows.ts';
import type { TableFacts } from './facts.ts';
import { EXACT_COUNT_LIMIT } from './tables.ts';

/** A table that was not counted for the record, and is empty. */
export interface EmptyTable {
  schema: string;
  name: string;
  /** the planner's estimate when the snapshot was made, which may be of rows that were deleted before */
  rows: number;
}

/**
 * Finds large tables that had rows by the planner's estimate, and are empty now. The estimate of a small table may be
 * about a few old rows. Only the first row of a table is read.
 *
 * @param tables that exist in the session's database
 */
export async function readEmptyTables(session: Session, tables: readonly TableFacts[]): Promise<EmptyTable[]> {
  const found: EmptyTable[] = [];
  for (const table of tables) {
    if (table.bytes <= EXACT_COUNT_LIMIT || table.rows === 0 || table.uncounted === 'rewritten') continue;
    const name = `${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)}`;
    const rows = await session.all(`SELECT FROM ONLY ${name} LIMIT 1`).catch((error: unknown) => {
      if (!isRefusal(error)) throw error;
      return [{}];
    });
    if (rows.length === 0) found.push({ schema: table.schema, name: table.name, rows: table.rows });
  }
  return found;
}

/** Says that a table is empty: `public.a is empty, although the dump has rows of it`. */
export function emptyText({ schema, name, rows }: EmptyTable, held: boolean): string {
  return held
    ? `${schema}.${name} is empty, although the dump has rows of it`
    : `${schema}.${name} is empty, as in the dump, although the server estimated ${plural(rows, 'row')}: perhaps they were deleted shortly before the snapshot`;
}
