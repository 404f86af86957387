import { quoteIdentifier, quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { disableTriggers } from './quiet-triggers.ts';
import { attempt } from './set-constraints-aside.ts';

interface Table {
  schema: string;
  name: string;
}

const quoted = ({ schema, name }: Table) => `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;

/** The result of {@link standIn}, for {@link fillThroughRoot}. */
export interface StoodIn {
  table: Table;
  /** the temporary name of the partition */
  aside: string;
}

/**
 * Replaces a partition by a plain table with the same columns, which accepts all rows.
 *
 * @param number unique for each partition of one restore
 */
export async function standIn(session: Session, table: Table, number: number): Promise<StoodIn> {
  const aside = `lifeboat_set_aside_${number}`;
  await session.run(
    `ALTER TABLE ${quoted(table)} RENAME TO ${quoteIdentifier(aside)};
     CREATE TABLE ${quoted(table)} (LIKE ${quoted({ ...table, name: aside })})`,
  );
  return { table, aside };
}

/**
 * Reverses {@link standIn}, and inserts the rows of the plain table through the topmost partitioned table. Resolves to
 * the server's words if the server refuses them; the partition has no rows then.
 */
export async function fillThroughRoot(session: Session, { table, aside: name }: StoodIn): Promise<string | undefined> {
  const aside = quoted({ ...table, name });
  const { root, columns } = await session.one<{ root: string; columns: string }>(
    `SELECT format('%I.%I', n.nspname, r.relname) AS root,
            (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
              WHERE attrelid = r.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns
       FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
      WHERE r.oid = pg_partition_root(${quoteLiteral(aside)}::regclass)`,
  );
  // The triggers of the dump exist by now. They would change the rows, or add some elsewhere.
  const triggers = await disableTriggers(session, aside);
  const insert = `INSERT INTO ${root} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${columns} FROM ${quoted(table)}`;
  const words = triggers.refused ?? (await attempt(session, insert));
  await triggers.restore();
  await session.run(
    `DROP TABLE ${quoted(table)};
     ALTER TABLE ${aside} RENAME TO ${quoteIdentifier(table.name)}`,
  );
  return words;
}
