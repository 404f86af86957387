import type { DrillCheck } from '../../report/drill-report.ts';
import type { DatabaseDetails } from '../../sources/postgres/facts/details.ts';
import { readUnfilledViews } from '../../sources/postgres/facts/unfilled-views.ts';
import type { Session } from '../../sources/postgres/server/session.ts';
import { equal, unrecorded } from './check.ts';

/** The name of {@link viewCheck}. */
export const VIEWS = 'materialized views without content';

/**
 * Compares the number of views without content. A view that reads foreign tables, or reaches another server in some
 * other way, cannot be refreshed without a network, which says nothing about the snapshot.
 *
 * @param unreachable views whose refresh failed because it could not reach a server, `schema.name`
 */
export async function viewCheck(
  session: Session,
  of: string,
  { unfilledViews: recorded }: Pick<DatabaseDetails, 'unfilledViews'>,
  unreachable: readonly string[],
): Promise<DrillCheck> {
  const name = VIEWS;
  if (recorded === undefined) return unrecorded(name, of);
  const now = await readUnfilledViews(session);
  const remote = now.filter((view) => view.foreign || unreachable.includes(view.plain));
  if (now.length > recorded && remote.length > 0 && now.length - remote.length <= recorded) {
    const detail = `${remote.map((view) => view.name).join(', ')} cannot be refreshed without a network`;
    return { name, of, result: 'skipped', detail };
  }
  const check = equal(name, of, recorded, now.length);
  if (check.result === 'ok') return check;
  return { ...check, differences: now.slice(0, 20).map((view) => `materialized view ${view.name} has no content`) };
}
