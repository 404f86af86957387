import { expect, test } from 'vitest';
import type { Plan } from '../../src/plan/model.ts';
import { renderPlan } from '../../src/report/terminal/listing.ts';

const now = new Date('2026-11-30T01:14:00Z');
const plan = { project: 'shop', sources: [], problems: [] } as unknown as Plan;
const view = { plan, probes: new Map(), nextRun: new Date('2026-11-30T03:00:00Z'), now, copies: [] };

test.each([
  ['UTC', 'next run today 03:00 UTC (in 1h 46m)'],
  ['Asia/Tokyo', '(03:00 UTC, in 1h 46m)'],
])('the head of a plan shows a time in UTC once, in the zone %s', (zone, text) => {
  const shown = renderPlan({ ...view, zone, destination: '/backups', encryption: 'not encrypted' });
  expect(shown.split('\n')[0]).toContain(text);
  expect(shown.split('03:00 UTC')).toHaveLength(2);
});
