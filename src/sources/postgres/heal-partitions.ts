import { quoteIdentifier, quoteLiteral } from './quote.ts';
import type { Session } from './session.ts';

interface Table {
  schema: string;
  name: string;
}

const quoted = ({ schema, name }: Table) => `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;

/** The name that a partition has while a plain table takes rows in its place. */
const setAside = ({ name }: Table) =>
  `${Buffer.from(name).subarray(0, 40).toString('latin1').replaceAll(/[^\w]/g, '_')}__set_aside`;

/** Puts a plain table with the columns of a partition in its place, so that it takes rows of any kind. */
export async function standIn(session: Session, table: Table): Promise<void> {
  const aside = setAside(table);
  await session.run(
    `ALTER TABLE ${quoted(table)} RENAME TO ${quoteIdentifier(aside)};
     CREATE TABLE ${quoted(table)} (LIKE ${quoted({ ...table, name: aside })})`,
  );
}

/** Undoes {@link standIn}, and puts the rows that came meanwhile through the topmost partitioned table. */
export async function fillThroughRoot(session: Session, table: Table): Promise<void> {
  const aside = quoted({ ...table, name: setAside(table) });
  const { root, columns } = await session.one<{ root: string; columns: string }>(
    `SELECT format('%I.%I', n.nspname, r.relname) AS root,
            (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
              WHERE attrelid = r.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns
       FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
      WHERE r.oid = pg_partition_root(${quoteLiteral(aside)}::regclass)`,
  );
  await session.run(
    `INSERT INTO ${root} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${columns} FROM ${quoted(table)};
     DROP TABLE ${quoted(table)};
     ALTER TABLE ${aside} RENAME TO ${quoteIdentifier(table.name)}`,
  );
}
