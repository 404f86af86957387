import { LifeboatError } from '../../../base/errors.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { type Named, quoteName } from './table-names.ts';

/** Reads the names of relations, types and statistics, by schema. Postgres renames array types itself. */
export async function namesIn(session: Session, schemas: readonly string[]): Promise<Map<string, Set<string>>> {
  const rows = await session.all<Named>(
    `SELECT n.nspname AS schema, o.name FROM pg_namespace n JOIN (
        SELECT relnamespace AS place, relname AS name FROM pg_class
        UNION SELECT typnamespace, typname FROM pg_type WHERE typcategory <> 'A'
        UNION SELECT stxnamespace, stxname FROM pg_statistic_ext) o ON o.place = n.oid
      WHERE n.nspname = ANY($1)`,
    [schemas],
  );
  const names = new Map(schemas.map((schema) => [schema, new Set<string>()]));
  for (const { schema, name } of rows) names.get(schema)?.add(name);
  return names;
}

/** @throws PG_TARGET_EXISTS if one of the tables exists, PG_RESTORE_FAILED if its schema is missing */
export async function checkFree(live: Session, tables: readonly Named[]): Promise<void> {
  const schemas = [...new Set(tables.map(({ schema }) => schema))];
  const names = await namesIn(live, schemas);
  for (const table of tables) if (names.get(table.schema)?.has(table.name)) throw await targetExists(live, table);
  const present = await live.all<{ name: string }>('SELECT nspname AS name FROM pg_namespace');
  const missing = schemas.find((schema) => !present.some(({ name }) => name === schema));
  if (missing === undefined) return;
  throw new LifeboatError('PG_RESTORE_FAILED', `database ${live.database} has no schema ${missing}`, {
    hint: `Create it, \`CREATE SCHEMA ${quoteIdentifier(missing)}\`, or restore the whole database. Nothing was changed.`,
  });
}

/** Describes a name that is taken. What to do depends on whether the present table is empty. */
export async function targetExists(live: Session, { schema, name }: Named): Promise<LifeboatError> {
  const rows = await rowsOf(live, { schema, name });
  const drop = `\`DROP TABLE ${quoteName({ schema, name })}\``;
  const hint = {
    none: `The present table is empty: an application may have created it again. Drop it (${drop}) and try again, or restore under another name with --as NAME and copy the rows from there.`,
    some: 'The present table has rows. Restore under another name with --as NAME, then copy the rows that you need.',
    unknown: 'Restore under another name with --as NAME.',
  }[rows];
  return new LifeboatError(
    'PG_TARGET_EXISTS',
    `database ${live.database} already has a table or type ${schema}.${name}`,
    { hint: `${hint} Nothing was changed.` },
  );
}

/** Returns whether a table has rows. Unknown for a view, an index or a type, and for a table that is locked. */
async function rowsOf(session: Session, table: Named): Promise<'none' | 'some' | 'unknown'> {
  try {
    const [found] = await session.all(
      `SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname = $1 AND relname = $2 AND relkind IN ('r', 'p')`,
      [table.schema, table.name],
    );
    if (!found) return 'unknown';
    await session.run("BEGIN READ ONLY; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '10s'");
    const rows = await session.all(`SELECT FROM ${quoteName(table)} LIMIT 1`).finally(() => session.run('ROLLBACK'));
    return rows.length === 0 ? 'none' : 'some';
  } catch {
    return 'unknown';
  }
}
