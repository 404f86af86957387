import { member, own } from './own.ts';

/**
 * The definitions of one kind of object: a query with the columns `schema` (null outside of schemas), `name` (unique in
 * the kind), and `line`: all that pg_dump keeps of the object. Definitions have the same line before a dump and after
 * its restore, in the same major version.
 */
export type Lines = (versionNumber: number) => string;

/**
 * A cast in an expression, as Postgres prints it: `::text`, `::character varying(10)[]`, `::"My type"`,
 * `::timestamp(3) with time zone`.
 */
const CAST = String.raw`::("[^"]+"|\w+)(\.("[^"]+"|\w+))*( varying| precision)?(\([0-9, -]+\))?( with(out)? time zone)?(\[\])*`;

/** A literal or a quoted name, which stays as it is. In a literal, quotes are doubled, and so are backslashes. */
const QUOTED = `'(?:[^']|'')*'|"(?:[^"]|"")*"`;

/** The pattern that {@link plain} removes, as the text of a literal. The first group stays. */
const REMOVED = `(${QUOTED})|${CAST}|[()\\s]`.replaceAll("'", "''");

/**
 * Returns an expression without casts, parentheses and white space, apart from its literals. The text of an expression
 * changes when it is dumped and restored for the first time: `(v)::text = ANY ((ARRAY['a'::character
 * varying])::text[])` becomes `(v)::text = ANY (ARRAY[('a'::character varying)::text])`, and nested conditions with AND
 * become flat.
 */
export const plain = (expression: string) => `regexp_replace(${expression}, '${REMOVED}', '\\1', 'g')`;

/** Returns lines with expressions as the server prints them; undefined if these lines have none. */
export function asPrinted(lines: string): string | undefined {
  // No text has a place before its beginning and after its end.
  return lines.includes(REMOVED) ? lines.replaceAll(REMOVED, '$^') : undefined;
}

/** Returns an array in order, because a restore may write options in another order. */
export const sorted = (array: string) =>
  `CASE WHEN ${array} IS NOT NULL THEN (SELECT array_agg(u ORDER BY u COLLATE "C") FROM unnest(${array}) u) END`;

/** Matches objects of the user in a catalogue whose objects have schemas. */
export const named = (catalogue: string, id: string, namespace: string) =>
  `${own(namespace)} AND NOT ${member(catalogue, id)}`;

/** Some minor versions keep a counter, `pg_attver`, among the options of a column. It is not dumped. */
const COLUMN_OPTIONS = `CASE WHEN attoptions IS NOT NULL THEN (SELECT array_agg(u ORDER BY u COLLATE "C")
         FROM unnest(attoptions) u WHERE u NOT LIKE 'pg!_%' ESCAPE '!') END`;

/**
 * Returns the columns of the relation `c`. Inherited columns come first in a restored table, so the order counts only
 * without inheritance.
 */
export function columns(versionNumber: number): string {
  const compression = versionNumber >= 140000 ? 'attcompression' : 'NULL';
  return `(SELECT array_agg(ROW(attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
       CASE WHEN attcollation <> 0 THEN nullif(attcollation, (SELECT typcollation FROM pg_type WHERE oid = atttypid))::regcollation END,
       CASE WHEN atthasdef THEN (SELECT ${plain('pg_get_expr(adbin, adrelid)')} FROM pg_attrdef
         WHERE adrelid = attrelid AND adnum = attnum) END,
       CASE WHEN c.relkind IN ('r', 'p', 'm', 'f') THEN ROW(attstorage, ${compression}, attstattarget)::text END,
       ${COLUMN_OPTIONS}, ${sorted('attfdwoptions')})::text
       ORDER BY CASE WHEN in_order THEN attnum END, attname)
     FROM (SELECT c.relispartition OR NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) AS in_order) o,
          pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)`;
}
