import { inSavepoint } from '../server/savepoint.ts';
import type { Session } from '../server/session.ts';

/** A foreign key that is valid according to the catalogue. All names are quoted. */
interface ForeignKey {
  name: string;
  /** the referencing table, and its columns */
  table: string;
  columns: string[];
  /** the referenced table, its columns, and the operators that compare them */
  target: string;
  keys: string[];
  operators: string[];
}

/** Only foreign keys whose two tables together have at most this many bytes are checked. */
const MAX_BYTES = 16 * 1024 ** 2;
/** The most foreign keys of a database that are checked. */
const MAX_KEYS = 500;
/** The number of foreign keys that one statement checks. */
const BATCH = 25;

/** A check waits this long for a lock, milliseconds. */
const LOCK_LIMIT_MS = 1000;

/** Formats the name of a table. ONLY is left out for a partitioned table, which has no rows of its own. */
const relation = (id: string, kind: string) =>
  `CASE WHEN ${kind} = 'p' THEN '' ELSE 'ONLY ' END || format('%I.%I',
    (SELECT nspname FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace WHERE r.oid = ${id}),
    (SELECT relname FROM pg_class r WHERE r.oid = ${id}))`;

const columns = (table: string, numbers: string) =>
  `(SELECT array_agg(format('%I', attname) ORDER BY i) FROM unnest(${numbers}) WITH ORDINALITY k(number, i)
     JOIN pg_attribute ON attrelid = ${table} AND attnum = number)`;

/** Selects valid foreign keys of permanent tables. Keys that a partition inherits are left out. */
const VALID = `contype = 'f' AND convalidated AND conparentid = 0 AND f.relpersistence = 'p' AND p.relpersistence = 'p'`;

const SIZE = 'pg_table_size(conrelid) + pg_table_size(confrelid)';

const KEYS = `SELECT format('%I', conname) AS name, ${relation('conrelid', 'f.relkind')} AS table, ${columns('conrelid', 'conkey')} AS columns,
    ${relation('confrelid', 'p.relkind')} AS target, ${columns('confrelid', 'confkey')} AS keys,
    (SELECT array_agg(format('OPERATOR(%I.%s)', nspname, oprname) ORDER BY i) FROM unnest(conpfeqop) WITH ORDINALITY k(id, i)
       JOIN pg_operator o ON o.oid = id JOIN pg_namespace n ON n.oid = oprnamespace) AS operators
  FROM pg_constraint JOIN pg_class f ON f.oid = conrelid JOIN pg_class p ON p.oid = confrelid
 WHERE ${VALID} AND ${SIZE} <= ${MAX_BYTES} ORDER BY 1, 2 LIMIT ${MAX_KEYS}`;

/**
 * Finds foreign keys that a restore will fail to create because rows reference rows that do not exist. Such orphan rows
 * are written while triggers are off (`session_replication_role = replica`). Checks only small tables, in the
 * transaction of the session. Returns warnings. Skips checks that the server refuses.
 */
export async function findOrphans(session: Session): Promise<string[]> {
  const found = await inSavepoint(session, () => session.all<ForeignKey>(KEYS));
  const keys = Array.isArray(found) ? found.filter(({ operators }) => operators?.length > 0) : [];
  const warnings: string[] = [];
  for (let at = 0; at < keys.length; at += BATCH) {
    const batch = keys.slice(at, at + BATCH);
    const rows = await inSavepoint(session, async () => {
      await session.run(`SET LOCAL lock_timeout = ${LOCK_LIMIT_MS}`);
      return session.all<{ i: number }>(batch.map(orphanQuery).join(' UNION ALL '));
    });
    for (const { i } of Array.isArray(rows) ? rows : []) {
      const { name, table, target } = batch[i] as ForeignKey;
      const [from, to] = [table, target].map((one) => one.replace(/^ONLY /, ''));
      warnings.push(
        `rows of ${from} reference missing rows of ${to}, so a restore will fail to create the foreign key ${name}: correct or delete them`,
      );
    }
  }
  return warnings;
}

/**
 * Returns how many foreign keys {@link findOrphans} skips because their tables are too large or the keys are too many.
 */
export async function countUnchecked(session: Session): Promise<number> {
  const rows = await inSavepoint(session, () =>
    session.all<{ large: string; small: string }>(
      `SELECT count(*) FILTER (WHERE ${SIZE} > ${MAX_BYTES}) AS large, count(*) FILTER (WHERE ${SIZE} <= ${MAX_BYTES}) AS small
         FROM pg_constraint JOIN pg_class f ON f.oid = conrelid JOIN pg_class p ON p.oid = confrelid WHERE ${VALID}`,
    ),
  );
  const [found] = Array.isArray(rows) ? rows : [];
  return found ? Number(found.large) + Math.max(0, Number(found.small) - MAX_KEYS) : 0;
}

/**
 * Builds the check that the server runs when it adds the constraint (ri_triggers.c, RI_Initial_Check). A key with a
 * null column references nothing.
 */
function orphanQuery({ table, columns: own, target, keys, operators }: ForeignKey, i: number): string {
  const on = own.map((column, n) => `p.${keys[n]} ${operators[n]} f.${column}`).join(' AND ');
  const set = own.map((column) => `f.${column} IS NOT NULL`).join(' AND ');
  return `SELECT ${i} AS i WHERE EXISTS (SELECT FROM ${table} f WHERE ${set} AND NOT EXISTS (SELECT FROM ${target} p WHERE ${on}))`;
}
