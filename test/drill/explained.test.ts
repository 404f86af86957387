import { describe, expect, test } from 'vitest';
import { withoutExplained } from '../../src/drill/checks/explained.ts';
import type { DrillCheck } from '../../src/report/drill-report.ts';

const check = (name: string, result: DrillCheck['result'] = 'failed'): DrillCheck => ({ name, of: 'shop', result });
const left = (names: readonly string[], outage: 'place' | 'helper') =>
  withoutExplained(
    names.map((name) => check(name)),
    outage,
  ).map(({ name }) => name);

describe('the failed checks of a drill that was cut off', () => {
  const ofServer = ['restored', 'rows', 'can be read', 'assert', 'assert users', 'materialized views without content'];
  const findings = [
    ...['SHA-256 of the write-ahead log', 'roles', 'memberships', 'definitions', 'owners and rights of each object'],
    ...['sequence values', 'owners', 'tables', 'extensions', 'invalid indexes', 'equal to the record'],
    'bytes in the index',
  ];

  test('say nothing if a server with too little memory fails them too', () => {
    expect(left([...ofServer, 'amcheck of indexes', 'amcheck of indexes and tables'], 'helper')).toEqual([]);
  });

  test('stay if no failure of a server explains them', () => {
    const all = [...findings, 'stored write-ahead log', 'SHA-256'];
    expect(left(all, 'helper')).toEqual(all);
  });

  test('say nothing of objects at a place that went away, and stay for the rest', () => {
    expect(left(['stored write-ahead log', 'SHA-256', ...findings], 'place')).toEqual(findings);
  });

  test('leave the others alone', () => {
    const others = [check('rows', 'ok'), check('assert', 'skipped')];
    expect(withoutExplained(others, 'helper')).toEqual(others);
  });
});
