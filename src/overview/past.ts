import type { RanRun, RanSource } from '../record/run-log.ts';
import { isRegular, type Manifest } from '../store/objects/manifest.ts';

/** Returns what the last run of a source did. `runs`: oldest first. */
export function lastRanOf(runs: readonly RanRun[], source: string): RanSource | undefined {
  return runs.findLast(({ sources }) => sources[source] !== undefined)?.sources[source];
}

/** One run of a source. Sizes in bytes. */
export interface PastRun {
  run: string;
  /** ISO time of its end */
  at: string;
  status: RanSource['status'];
  /** absent if only the snapshot is known */
  durationMs?: number;
  bytes: number;
  newBytes: number;
  code?: RanSource['code'];
}

/**
 * Returns the runs of a source, oldest first: those of the log, and those of which only the snapshot is known, because
 * the log was lost or is younger.
 *
 * @param runs the log, oldest first
 * @param manifests newest first
 * @param source its name
 */
export function pastOf(runs: readonly RanRun[], manifests: readonly Manifest[], source: string): PastRun[] {
  const past = new Map<string, PastRun>();
  for (const { id, end, sources, ...manifest } of manifests) {
    const entry = sources[source];
    if (!entry || !isRegular(manifest)) continue;
    const { status, bytes, newBytes, error } = entry;
    past.set(id, { run: id, at: end, status, bytes, newBytes, ...(error ? { code: error.code } : {}) });
  }
  for (const { id, end, trigger, sources } of runs) {
    const ran = sources[source];
    if (ran && isRegular({ trigger })) past.set(id, { run: id, at: end, ...ran });
  }
  return [...past.values()].sort((a, b) => (a.at < b.at ? -1 : 1));
}
