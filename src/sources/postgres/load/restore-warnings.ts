import { plural } from '../../../report/format.ts';
import type { ArchiveEntry } from '../archive/archive.ts';
import { countRows } from '../facts/count-rows.ts';
import type { DatabaseFacts, TableFacts } from '../facts/facts.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';

/** Warns of subscriptions, which `pg_dump` writes with `connect = false` (Postgres docs, CREATE SUBSCRIPTION). */
export function subscriptionWarnings(
  { name: database }: DatabaseFacts,
  entries: readonly ArchiveEntry[],
  missing: ReadonlySet<number>,
): string[] {
  return entries
    .filter(({ kind, dumpId }) => kind === 'SUBSCRIPTION' && !missing.has(dumpId))
    .map(({ tag }) => {
      const name = quoteIdentifier(tag);
      return `database ${database}: subscription ${tag} is restored disabled: when its publisher has the slot for it and nothing else uses that slot, run ALTER SUBSCRIPTION ${name} ENABLE and ALTER SUBSCRIPTION ${name} REFRESH PUBLICATION`;
    });
}

/** The tables of these extensions change while the extension runs. */
const PASSED_OVER = ['timescaledb', 'pg_cron'];

/**
 * Warns of tables of extensions that have other rows than recorded. `pg_dump` only dumps the rows that the extension
 * selects (Postgres docs, pg_extension_config_dump). Changes nothing.
 */
export async function extensionRowWarnings(session: Session, recorded: DatabaseFacts): Promise<string[]> {
  const present = await session.all<{ schema: string; name: string }>(
    `SELECT nspname AS schema, relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind = 'r' AND EXISTS (SELECT FROM pg_depend m
        WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid AND m.deptype = 'e')`,
  );
  const then = recorded.tables.filter(
    ({ schema, name, extension, exact }) =>
      extension !== undefined &&
      exact &&
      !PASSED_OVER.includes(extension) &&
      present.some((table) => table.schema === schema && table.name === name),
  );
  const now: TableFacts[] = then.map((table) => ({ ...table }));
  await session.run('BEGIN READ ONLY');
  await countRows(session, now);
  await session.run('ROLLBACK');
  return now.flatMap(({ schema, name, extension, rows, exact }, i) => {
    const before = (then[i] as TableFacts).rows;
    if (!exact || rows === before) return [];
    return [
      `database ${recorded.name}: ${schema}.${name}, a table of extension ${extension}, has ${plural(rows, 'row')}, the snapshot has ${before}: the extension leaves them out of dumps`,
    ];
  });
}
