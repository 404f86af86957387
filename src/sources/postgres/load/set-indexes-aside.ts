import type { ArchiveEntry } from '../archive/archive.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { attempt } from './set-constraints-aside.ts';

/** A primary key, a UNIQUE or exclusion constraint, a unique index, or a foreign key. */
interface Key {
  /** unquoted; of the table, or of the index where there is no constraint */
  schema: string;
  /** as the tag of its entry in the dump has it */
  tag: string;
  /** absent for one that goes with the one of the partitioned table */
  drop: string | null;
}

/** Some tables, and all partitions of the partitioned tables that they belong to. */
const TREES = `WITH given AS (SELECT to_regclass(t) AS id FROM unnest($1::text[]) t),
  trees AS (SELECT id::oid FROM given UNION SELECT tree.relid FROM given, pg_partition_tree(pg_partition_root(id)) tree)`;

/** Foreign keys to and from the tables come first, since they depend on the others. */
const KEYS = `${TREES}
  SELECT nspname AS schema, relname || ' ' || conname AS tag,
         CASE WHEN conparentid = 0 THEN format('ALTER TABLE %I.%I DROP CONSTRAINT %I', nspname, relname, conname) END AS drop,
         contype = 'f' AS "isForeign"
    FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
   WHERE contype IN ('p', 'u', 'x', 'f') AND (conrelid IN (SELECT id FROM trees) OR confrelid IN (SELECT id FROM trees))
  UNION ALL
  SELECT nspname, relname, CASE WHEN NOT relispartition THEN format('DROP INDEX %I.%I', nspname, relname) END, false
    FROM pg_index i JOIN pg_class r ON r.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace
   WHERE indisunique AND indrelid IN (SELECT id FROM trees) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    ORDER BY 4 DESC`;

/**
 * Drops the keys, unique indexes and foreign keys of tables: rows that one of them refuses would keep all others of
 * their table out. One that the server does not let go stays.
 *
 * @param tables quoted, with their schemas
 * @returns dump ids of the entries that make what was dropped, in the dump's order
 */
export async function dropKeys(
  session: Session,
  tables: readonly string[],
  entries: readonly ArchiveEntry[],
): Promise<number[]> {
  const before = await session.all<Key>(KEYS, [tables]);
  if (before.length === 0) return [];
  for (const { drop } of before) if (drop !== null) await attempt(session, drop);
  const place = ({ schema, tag }: { schema: string; tag: string }) => JSON.stringify([schema, tag]);
  const left = new Set((await session.all<Key>(KEYS, [tables])).map(place));
  const dropped = new Set(before.map(place).filter((key) => !left.has(key)));
  const again = new Set<number>();
  for (const entry of entries) {
    const isKey = ['CONSTRAINT', 'FK CONSTRAINT', 'INDEX'].includes(entry.kind) && dropped.has(place(entry));
    const follows = ['INDEX ATTACH', 'COMMENT'].includes(entry.kind) && entry.dependencies.some((id) => again.has(id));
    if (isKey || follows) again.add(entry.dumpId);
  }
  return [...again];
}

/** A table's name as SQL. */
export function quotedTable({ schema, tag }: Pick<ArchiveEntry, 'schema' | 'tag'>): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(tag)}`;
}
