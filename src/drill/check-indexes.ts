import type { DrillCheck } from '../report/drill-report.ts';
import { plural } from '../report/format.ts';
import { checkRelations } from '../sources/postgres/facts/amcheck.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { noneOf } from './checks/check.ts';
import type { Part } from './context.ts';

/**
 * Checks the structure of all B-tree indexes of a database with amcheck, see {@link checkRelations}. Skips the check if
 * the image does not have the extension, or if the time of the drill is not enough.
 *
 * @param options `tables`: checks tables too, which a recovery takes over page by page
 */
export async function checkIndexes(
  tools: Tools,
  database: string,
  { until, signal, tables }: Pick<Part, 'until' | 'signal'> & { tables: boolean },
): Promise<DrillCheck> {
  const name = tables ? 'amcheck of indexes and tables' : 'amcheck of indexes';
  const session = await tools.session(database, signal);
  try {
    const found = await checkRelations(session, { tables, until, signal });
    const skipped = (detail: string): DrillCheck => ({ name, of: database, result: 'skipped', detail });
    if (found.unavailable !== undefined) return skipped(`amcheck cannot be used: ${found.unavailable}`);
    const all = found.left + found.indexes + found.tables;
    const [one, many] = tables ? ['index or table', 'indexes and tables'] : ['index', 'indexes'];
    if (found.left > 0 && found.damaged.length === 0)
      return skipped(`there was no time for ${found.left} of ${plural(all, one, many)}`);
    const counts = [plural(found.indexes, 'index', 'indexes'), ...(tables ? [plural(found.tables, 'table')] : [])];
    return noneOf(name, database, found.damaged, counts.join(', '));
  } finally {
    await session.close();
  }
}
