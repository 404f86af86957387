import type { DrillCheck } from '../../report/drill-report.ts';

/** Why a drill ended early: the place became unreadable, or a helper failed, for example for lack of memory. */
type Outage = 'place' | 'helper';

/** Checks that fail if their server has too little memory, or dies. */
const OF_A_SERVER = ['restored', 'rows', 'can be read', 'materialized views without content', 'assert'];

/** Checks that fail if objects cannot be read. */
const OF_A_PLACE = ['stored write-ahead log', 'SHA-256'];

/**
 * Returns the checks that still say something about a snapshot after its drill was cut off: a failed one does not if
 * what ended the drill explains the failure too. All others are findings, whatever came after them.
 */
export function withoutExplained(checks: readonly DrillCheck[], outage: Outage): DrillCheck[] {
  return checks.filter(({ name, result }) => result !== 'failed' || !isExplained(name, outage));
}

function isExplained(name: string, outage: Outage): boolean {
  const names = outage === 'place' ? [...OF_A_SERVER, ...OF_A_PLACE] : OF_A_SERVER;
  return names.includes(name) || name.startsWith('assert ') || name.startsWith('amcheck');
}
