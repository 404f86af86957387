import type { ArchiveEntry } from '../archive/archive.ts';
import type { Failure } from '../archive/restore-failures.ts';
import { isRefusal } from '../facts/count-rows.ts';
import { quoteIdentifier, quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { serverWords } from '../server/sql-state.ts';

interface ForeignKey {
  schema: string;
  table: string;
  name: string;
  definition: string;
  comment: string | null;
}

/**
 * Foreign keys of tables, and of the tables whose partitions these are (pg_constraint: conparentid is 0 for the key
 * itself).
 */
const KEYS = `WITH filled AS (SELECT to_regclass(t) AS id FROM unnest($1::text[]) t)
  SELECT nspname AS schema, relname AS table, conname AS name, pg_get_constraintdef(c.oid) AS definition,
         obj_description(c.oid, 'pg_constraint') AS comment
    FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
   WHERE contype = 'f' AND convalidated AND conparentid = 0
     AND conrelid IN (SELECT id FROM filled UNION SELECT a.relid FROM filled, pg_partition_ancestors(id) a)
   ORDER BY 1, 2, 3`;

/**
 * Checks the foreign keys of tables that were filled while no trigger fired, by creating each one again. A key that the
 * rows violate is dropped, and is a failure.
 *
 * @param filled the entries of these rows
 */
export async function checkForeignKeys(
  session: Session,
  entries: readonly ArchiveEntry[],
  filled: readonly ArchiveEntry[],
): Promise<Failure[]> {
  if (filled.length === 0) return [];
  const tables = filled.map(({ schema, tag }) => quoteTable(schema, tag));
  const failures: Failure[] = [];
  for (const key of await session.all<ForeignKey>(KEYS, [tables])) {
    const words = await recreate(session, key);
    if (words === undefined) continue;
    const entry = entries.find(
      ({ kind, schema, tag }) =>
        kind === 'FK CONSTRAINT' && schema === key.schema && tag === `${key.table} ${key.name}`,
    );
    const dumpId = entry?.dumpId ?? (filled[0] as ArchiveEntry).dumpId;
    failures.push({ dumpId, words });
  }
  return failures;
}

/** Creates a key again. Resolves to the server's words if the server refuses it; the key is dropped then. */
async function recreate(session: Session, key: ForeignKey): Promise<string | undefined> {
  const table = quoteTable(key.schema, key.table);
  const name = quoteIdentifier(key.name);
  const drop = `ALTER TABLE ${table} DROP CONSTRAINT ${name}`;
  const comment =
    key.comment === null ? '' : `; COMMENT ON CONSTRAINT ${name} ON ${table} IS ${quoteLiteral(key.comment)}`;
  try {
    // One query is one transaction.
    await session.run(`${drop}; ALTER TABLE ${table} ADD CONSTRAINT ${name} ${key.definition}${comment}`);
    return undefined;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    await session.run(drop);
    return serverWords(error) ?? String(error);
  }
}

function quoteTable(schema: string, name: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}
