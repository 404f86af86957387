import type { DrillReport, DrillResult } from '../report/drill-report.ts';

/** The part that a drill had about one source. */
export interface DrilledSource {
  report: DrillReport;
  result: DrillResult;
}

/**
 * Returns the last drill that tells something about a source.
 *
 * @param drills oldest first
 * @param source its name
 * @param statuses the results that count; default: it was restored and compared
 */
export function lastDrillOf(
  drills: readonly DrillReport[],
  source: string,
  statuses: readonly DrillResult['status'][] = ['ok', 'failed'],
): DrilledSource | undefined {
  for (const report of drills.toReversed()) {
    const result = report.results.find((one) => one.source === source && statuses.includes(one.status));
    if (result) return { report, result };
  }
  return undefined;
}
