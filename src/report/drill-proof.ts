import type { DrillAsked, DrillReport, DrillResult } from './drill-report.ts';

/** Returns whether a drill was of the newest data that is stored. */
export function isNewest({ snapshot, at }: DrillAsked): boolean {
  return snapshot === undefined && (at === undefined || at === 'latest');
}

/**
 * Returns whether a good result proves the backup that a recovery would use: the newest snapshot, from the repository
 * or from the copy that stands in for it. Evidence of older versions does not record what was asked for, and counts.
 *
 * @param home name of the place that holds the evidence, if it is known: evidence from elsewhere names that place
 */
export function isProof({ asked = {} }: DrillReport, { place }: Pick<DrillResult, 'place'>, home?: string): boolean {
  return isNewest(asked) && (asked.from === undefined || place === home);
}

/** Returns whether a drill was of all sources, and came to all of them. */
export function isWhole({ asked = {}, results, error }: DrillReport): boolean {
  return results.length > 0 && error === undefined && !asked.sources && !asked.snapshot && !asked.at && !asked.from;
}

/** Stands for the sources of a drill that failed before it came to any of them. */
export const ALL_SOURCES = '*';

/**
 * Finds what corrected the failures of drills: the next drill that proves the source again. A drill that failed before
 * it came to any source is corrected by the next one that comes to one.
 *
 * @param drills oldest first
 * @param home see {@link isProof}
 * @returns by the id of each failed drill: the id of the good drill by source, or by {@link ALL_SOURCES}
 */
export function corrections(drills: readonly DrillReport[], home: string): Map<string, Record<string, string>> {
  return new Map(
    drills.flatMap((drill, at): [string, Record<string, string>][] => {
      if (drill.status !== 'failed') return [];
      const later = drills.slice(at + 1);
      const pairs = failedSources(drill).flatMap((source): [string, string][] => {
        const good = later.find((one) => corrects(one, source, home));
        return good ? [[source, good.id]] : [];
      });
      return [[drill.id, Object.fromEntries(pairs)]];
    }),
  );
}

/** Returns the names of the sources that failed in a drill, or {@link ALL_SOURCES} if it failed as a whole. */
export function failedSources({ status, results }: DrillReport): string[] {
  const failed = results.filter((one) => one.status === 'failed').map(({ source }) => source);
  return failed.length > 0 || status !== 'failed' ? failed : [ALL_SOURCES];
}

/** Returns the sources that are failing since an earlier drill. `failing`: all that are failing after this one. */
export function stillFailing(drill: DrillReport, failing: readonly string[]): string[] {
  const now = failedSources(drill);
  return failing.filter((name) => name !== ALL_SOURCES && !now.includes(name));
}

function corrects(drill: DrillReport, source: string, home: string): boolean {
  if (source === ALL_SOURCES) return drill.results.some(({ status }) => status !== 'interrupted');
  return drill.results.some((one) => one.source === source && one.status === 'ok' && isProof(drill, one, home));
}
