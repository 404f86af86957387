import type { readDrills } from '../drill/evidence.ts';
import { corrections, isProof } from '../report/drill-proof.ts';
import type { DrillReport, DrillResult } from '../report/drill-report.ts';
import type { ListedDrill } from '../report/terminal/listed-drill.ts';

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
 * @param options `statuses`: the results that count; default: it was restored and compared. `home`: name of the
 *   destination, which evidence from elsewhere names
 */
export function lastDrillOf(
  drills: readonly DrillReport[],
  source: string,
  { statuses = ['ok', 'failed'], home }: { statuses?: readonly DrillResult['status'][]; home?: string } = {},
): DrilledSource | undefined {
  for (const report of drills.toReversed()) {
    const result = report.results.find((one) => one.source === source && statuses.includes(one.status));
    // A good drill of an old snapshot, or of another place, says nothing about what a recovery would use.
    if (result?.status === 'ok' && !isProof(report, result, home)) continue;
    if (result) return { report, result };
  }
  return undefined;
}

/** Returns evidence as documents show it, oldest first: with its signature, its place in the chain, and corrections. */
export function listedDrills({ drills, place }: Awaited<ReturnType<typeof readDrills>>): ListedDrill[] {
  const reports = drills.map(({ report }) => report);
  const corrected = corrections(reports, place);
  return drills.map(({ report, signature, sequence, hash }) => {
    const by = corrected.get(report.id);
    return { ...report, signature, sequence, hash, ...(by ? { corrected: by } : {}) };
  });
}
