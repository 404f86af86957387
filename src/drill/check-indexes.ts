import type { DrillCheck } from '../report/drill-report.ts';
import { plural } from '../report/format.ts';
import { quoteLiteral } from '../sources/postgres/server/quote.ts';
import { serverWords, sqlState } from '../sources/postgres/server/sql-state.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { noneOf } from './context.ts';

const NAME = 'amcheck of indexes';

/**
 * Checks the structure of all B-tree indexes with amcheck (Postgres docs, F.1). Creates the extension, so this comes
 * after the comparison with the record. Skips the check if the image does not have the extension.
 */
export async function checkIndexes(tools: Tools, database: string, signal: AbortSignal): Promise<DrillCheck> {
  const session = await tools.session(database, signal);
  try {
    const [available] = await session.all("SELECT FROM pg_available_extensions WHERE name = 'amcheck'");
    if (!available)
      return { name: NAME, of: database, result: 'skipped', detail: 'the image does not have the extension amcheck' };
    await session.run('CREATE SCHEMA lifeboat_amcheck');
    await session.run('CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA lifeboat_amcheck');
    const { schema } = await session.one<{ schema: string }>(
      `SELECT extnamespace::regnamespace::text AS schema FROM pg_extension WHERE extname = 'amcheck'`,
    );
    const indexes = await session.all<{ id: string; name: string }>(
      `SELECT c.oid::text AS id, c.oid::regclass::text AS name FROM pg_class c JOIN pg_index ON indexrelid = c.oid
         JOIN pg_am a ON a.oid = relam WHERE amname = 'btree' AND relkind = 'i' AND indisvalid AND indisready ORDER BY 2`,
    );
    const differences: string[] = [];
    for (const { id, name } of indexes) {
      signal.throwIfAborted();
      await session
        .run(`SELECT ${schema}.bt_index_check(${quoteLiteral(id)}::oid::regclass)`)
        .catch((error: unknown) => {
          if (sqlState(error) === undefined) throw error;
          differences.push(`index ${name}: ${serverWords(error)}`);
        });
    }
    return noneOf(NAME, database, differences, plural(indexes.length, 'index', 'indexes'));
  } finally {
    await session.close();
  }
}
