import { expect, test } from 'vitest';
import { sourceWarnings } from '../../src/report/fall.ts';
import { headline, renderReport } from '../../src/report/text.ts';
import { makeReport, makeResult } from './fixtures.ts';

const now = new Date('2026-11-22T03:00:00Z');
const why = ['rows fell by 90 % since the last good snapshot: from 100 to 10'];
const commands = expect.stringMatching(/`lifeboat restore s db\.postgres`; .*`lifeboat accept db\.postgres`/);

test('a loss names the commands, of which one is right', () => {
  const lost = makeResult({ name: 'db.postgres', warnings: [...why, 'more'], fell: { since: 's', why } });
  expect(sourceWarnings(lost, now)).toEqual([...why, commands, 'more']);
  const twice = { ...lost, fell: { since: 's', earlier: 'older', why } };
  expect(sourceWarnings(twice, now)[1]).toContain('`lifeboat restore older db.postgres`');
});

test('later runs repeat a loss that nobody has accepted, and their headlines do not say that all is well', () => {
  const fell = { since: 's', why, at: '2026-11-20T03:00:00.000Z' };
  const later = makeResult({ name: 'db.postgres', warnings: [], fell });
  expect(sourceWarnings(later, now)).toEqual([`not accepted yet: ${why[0]} (2 days ago)`, commands]);
  const report = makeReport({ results: [later] });
  expect(headline(report)).toMatch(/backup ok, but db\.postgres needs attention$/);
  expect(renderReport(report, { now })).toContain('warning: not accepted yet: rows fell by 90 %');
  expect(sourceWarnings(makeResult({ warnings: ['w'] }), now)).toEqual(['w']);
});
