import type { DrillReport, DrillResult } from '../drill-report.ts';
import { withTarget } from '../drill-text.ts';
import { formatAge, formatDuration } from '../format.ts';

/** Stored evidence of a drill, with what its place among the others shows. */
export interface ListedDrill extends DrillReport {
  /** `signed`: verified; `unsigned`: from before there was a key; `unchecked`: no key is set */
  signature?: string;
  /** its number in the chain of evidence, 1 for the first */
  sequence?: number;
  /** hex SHA-256 of the stored document, which the next document names */
  hash?: string;
  /** the id of the drill that proved each failed source again; `*`: the drill failed as a whole */
  corrected?: Record<string, string>;
}

/** A document that is no evidence. */
interface BadEvidence {
  id: string;
  error: { code: string; message: string; hint?: string };
}

/** The evidence of a period, as `lifeboat drills` reads it. */
export interface DrillsReport {
  project: string;
  /** ISO time of the start of the period; absent: all evidence */
  since?: string;
  /** newest first */
  drills: readonly ListedDrill[];
  /** evidence that is unreadable, changed or missing */
  problems: readonly BadEvidence[];
  /** documents that do not count: a key is set, and they have no signature */
  unsigned?: readonly BadEvidence[];
}

/** Returns how a result is worded: `ok`, `ok for 5 % of the files`, `ended early`. */
export function outcome({ status, share }: Pick<DrillResult, 'status' | 'share'>): string {
  const words = { ok: 'ok', failed: 'failed', interrupted: 'ended early', unproven: 'proved only a part' }[status];
  return share === undefined ? words : `${words} for ${Math.max(1, Math.round(share * 100))} % of the files`;
}

/** Returns the measured age of data with its target: `9h (target 1d)`. */
export function ageText({ ageMs, rpo }: Pick<DrillResult, 'ageMs' | 'rpo'>): string {
  return ageMs === undefined ? '' : withTarget(formatAge(ageMs), rpo);
}

/** Returns the measured time of a restore with its target: `2h (target 1h, not met)`. */
export function restoreText({ restoreMs, rto }: Pick<DrillResult, 'restoreMs' | 'rto'>): string {
  return restoreMs === undefined ? '' : withTarget(formatDuration(restoreMs), rto);
}

/** Returns who asked for a drill: `anna`, `manual`, `schedule`. */
export function askedBy({ by, trigger }: DrillReport): string {
  return by ?? trigger;
}
