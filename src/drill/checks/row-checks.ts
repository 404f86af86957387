import type { DrillCheck } from '../../report/drill-report.ts';
import { plural } from '../../report/format.ts';
import type { DatabaseFacts } from '../../sources/postgres/facts/facts.ts';
import type { LoadedDatabase } from '../../sources/postgres/load/load.ts';
import { noneOf } from './check.ts';

type Rows = Pick<LoadedDatabase, 'rows' | 'compared' | 'uncompared' | 'reasons' | 'refused' | 'lost'>;

/**
 * Returns what a restore has found out about rows. A table that it could not count may not hold what the dump has.
 */
export function rowChecks(
  { name: of }: Pick<DatabaseFacts, 'name'>,
  { rows, compared, uncompared, reasons, refused, lost }: Rows,
): DrillCheck[] {
  const check = noneOf('rows', of, [...refused, ...lost], plural(compared, 'table'));
  if (check.result === 'ok') Object.assign(check, { expected: rows, found: rows });
  if (uncompared === refused.length) return [check];
  const detail = `${plural(uncompared, 'table')}: ${reasons.join(', ')}`;
  return [check, { name: 'rows that were not counted', of, result: 'skipped', detail }];
}
