import type { Parsed } from './fields.ts';

/** An SQL condition that must be true on a restored database. */
export interface DrillAssert {
  /** the end of the label's key; empty for the label without a name */
  name: string;
  sql: string;
}

/** The demands of the labels of a Postgres container on its drills. */
export interface DrillAsks {
  asserts: DrillAssert[];
  /** the database that the asserts are about; absent: the one that the settings of the container name */
  database?: string;
}

/** The longest condition, in characters: it is repeated in reports. */
const MAX_LENGTH = 4000;

/** Parses a condition. Only a server can tell whether it is SQL. */
export function parseAssert(text: string): Parsed<string> {
  const sql = text.trim();
  if (sql === '') return { problem: 'is empty', hint: 'write a condition, such as (select count(*) from users) > 0' };
  if (sql.length > MAX_LENGTH) return { problem: `is longer than ${MAX_LENGTH} characters` };
  return { value: sql };
}

/** Combines the conditions of the labels. Those with a name are sorted by it, after the one without. */
export function drillAsks(
  first: string | undefined,
  named: Readonly<Record<string, string>> | undefined,
  database: string | undefined,
): DrillAsks | undefined {
  const asserts = [
    ...(first === undefined ? [] : [{ name: '', sql: first }]),
    ...Object.entries(named ?? {})
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, sql]) => ({ name, sql })),
  ];
  if (asserts.length === 0 && database === undefined) return undefined;
  return { asserts, ...(database === undefined ? {} : { database }) };
}
