import { LifeboatError } from '../../errors.ts';
import { plural } from '../../report/format.ts';
import { countRows } from './count-rows.ts';
import type { DatabaseFacts, TableFacts } from './facts.ts';
import { countDifferences, readObjectCounts } from './object-counts.ts';
import type { Session } from './session.ts';

/** What a comparison rests on. */
export interface Compared {
  /** rows compared and found equal */
  rows: number;
  /** tables whose rows were only estimated when the snapshot was made, or cannot be counted now: they are not compared */
  estimated: number;
}

/**
 * Compares row counts, extensions (but for those left out on purpose), and how many constraints, indexes and other objects
 * there are, with the record. PG_RESTORE_FAILED on any difference.
 */
export async function compareDatabase(
  session: Session,
  recorded: DatabaseFacts,
  leftOut: readonly string[] = [],
): Promise<Compared> {
  const differences: string[] = [];
  const extensions = await session.all<{ name: string }>('SELECT extname AS name FROM pg_extension');
  for (const { name } of recorded.extensions) {
    if (!leftOut.includes(name) && !extensions.some((extension) => extension.name === name))
      differences.push(`extension ${name} is missing`);
  }
  const { objects } = await session.one<{ objects: string }>(
    'SELECT count(*)::text AS objects FROM pg_largeobject_metadata',
  );
  if (Number(objects) !== recorded.largeObjects) {
    differences.push(`it has ${plural(Number(objects), 'large object')}, recorded were ${recorded.largeObjects}`);
  }
  const dumped = recorded.tables.filter(({ extension, data }) => extension === undefined && data !== false);
  const expected = dumped.filter(({ exact }) => exact);
  const restored: TableFacts[] = expected.map((table) => ({ ...table, rows: -1 }));
  await session.run('BEGIN READ ONLY');
  const refused = await countRows(session, restored);
  await session.run('ROLLBACK');
  restored.forEach((table, i) => {
    if (!table.exact) return;
    const rows = (expected[i] as TableFacts).rows;
    if (table.rows !== rows)
      differences.push(`${table.schema}.${table.name} has ${plural(table.rows, 'row')}, recorded were ${rows}`);
  });
  differences.push(...countDifferences(recorded, await readObjectCounts(session)));
  if (differences.length > 0) {
    throw new LifeboatError(
      'PG_RESTORE_FAILED',
      `the restored database differs from the record: ${differences.slice(0, 5).join('; ')}`,
      {
        hint: 'The restored copy was dropped and nothing else was changed; try an older snapshot and report this.',
      },
    );
  }
  return {
    rows: restored.reduce((sum, table) => sum + (table.exact ? table.rows : 0), 0),
    estimated: dumped.length - expected.length + refused.length,
  };
}
