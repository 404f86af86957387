import type { DrillCheck } from '../../report/drill-report.ts';

/** Returns a comparison of two values. */
export function equal(name: string, of: string, expected: number | string, found: number | string): DrillCheck {
  return { name, of, result: expected === found ? 'ok' : 'failed', expected, found };
}

/** The most differences that a check lists. */
const LISTED = 20;

/** Returns a check that fails if there are differences. Names the first of them. */
export function noneOf(name: string, of: string, differences: readonly string[], detail?: string): DrillCheck {
  const more = differences.length - LISTED;
  return {
    ...{ name, of, result: differences.length === 0 ? 'ok' : 'failed' },
    ...(differences.length === 0
      ? {}
      : { differences: [...differences.slice(0, LISTED), ...(more > 0 ? [`and ${more} more`] : [])] }),
    ...(detail === undefined ? {} : { detail }),
  };
}

/** Returns a check that cannot be made, because the snapshot is of an older agent or the server refused it. */
export function unrecorded(name: string, of: string): DrillCheck {
  return { name, of, result: 'skipped', detail: 'the snapshot does not record it' };
}
