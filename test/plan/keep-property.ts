import { expect } from 'vitest';
import { decideKept } from '../../src/plan/keep.ts';
import { makeHistory, oracle } from './histories.ts';

/** Compares the decisions on one generated history with the oracle, and checks what must never happen. */
export function checkHistory(seed: number): void {
  const history = makeHistory(seed);
  const { snapshots, rules, zone, now } = history;
  const decisions = decideKept(snapshots, rules, { zone, now });
  const kept = new Set(decisions.filter(({ keep }) => keep).map(({ id }) => id));
  const expected = oracle(history);
  if (kept.size !== expected.size || [...kept].some((id) => !expected.has(id))) {
    expect([...kept].sort(), `history ${seed}`).toEqual([...expected].sort());
  }
  const staying = snapshots.filter(({ id }) => kept.has(id));
  for (const name of rules.keys()) {
    const had = snapshots.some(({ sources }) => sources[name]?.status === 'ok');
    const has = staying.some(({ sources }) => sources[name]?.status === 'ok');
    if (had !== has) expect.fail(`history ${seed}: no good snapshot of ${name} is left`);
  }
  // A second decision on the rest removes nothing more.
  const again = decideKept(staying, rules, { zone, now });
  if (again.some(({ keep }) => !keep)) expect.fail(`history ${seed}: a second prune removes more`);
}
