import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { DrillAsked, DrillReport, DrillResult } from '../report/drill-report.ts';
import { describeTarget } from '../restore/point/target.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { DrillDeps, DrillRequest } from './context.ts';
import { kindOf, type Run } from './drill-one.ts';
import { readDrills } from './evidence.ts';

/** The last drills that are read to find where the next share of a volume begins. */
const EARLIER = 60;

/** Reads the last drills, oldest first. A drill does not fail because of the evidence of others. */
export async function earlierDrills(
  { log }: Pick<DrillDeps, 'log'>,
  place: () => Promise<Repository>,
  signal: AbortSignal,
): Promise<readonly DrillReport[]> {
  try {
    const { drills } = await readDrills(await place(), { newest: EARLIER, signal });
    return drills.map(({ report }) => report);
  } catch (error) {
    signal.throwIfAborted();
    log.warn('the evidence of earlier drills cannot be read', { ...errorInfo(error) });
    return [];
  }
}

/** Returns results for the sources that a drill ended before, so that its evidence names them. */
export function unreached(
  names: readonly string[],
  results: readonly DrillResult[],
  { places, plan, signal }: Pick<Run, 'places' | 'plan' | 'signal'>,
): DrillResult[] {
  if (!signal.aborted) return [];
  const left = names.filter((name) => !results.some(({ source }) => source === name));
  const error = errorInfo(new LifeboatError('INTERRUPTED', 'the drill ended before it came to this source'));
  const place = places.repository.destination.name;
  return left.map((source) => {
    const kind = kindOf(plan.find(({ name }) => name === source));
    return { source, kind, status: 'interrupted', place, steps: [], checks: [], notes: [], error };
  });
}

/** Returns what is recorded of a request: what differs from a scheduled drill. */
export function askedOf(
  { otherRepository, place }: DrillDeps,
  { sources, snapshot, aim, stack }: DrillRequest,
): DrillAsked {
  return {
    ...(sources.length === 0 ? {} : { sources: [...sources] }),
    ...(snapshot === 'latest' ? {} : { snapshot }),
    ...(aim ? { at: describeTarget(aim.target) } : {}),
    ...(otherRepository ? { from: place } : {}),
    ...(stack ? { stack } : {}),
  };
}
