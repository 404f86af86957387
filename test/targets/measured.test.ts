import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DrillReport } from '../../src/report/drill-report.ts';
import { lastMeasured, lastProven, saveDrilled } from '../../src/targets/measured.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-measured-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const drilled = (asked?: DrillReport['asked'], share?: number) =>
  ({
    ...{ id: 'd1', end: '2026-11-20T06:00:00.000Z', ...(asked ? { asked } : {}) },
    results: [{ source: 'db', status: 'ok', place: '/b', restoreMs: 38_000, ...(share ? { share } : {}) }],
  }) as unknown as DrillReport;

test('a good drill measures the time of a restore, and proves the source', async () => {
  await saveDrilled(directory, drilled({ sources: ['db'] }));
  expect(await lastMeasured(directory)).toMatchObject({ db: { durationMs: 38_000, by: 'drill' } });
  expect(await lastProven(directory)).toEqual({ db: '2026-11-20T06:00:00.000Z' });
});

test.each([
  ['an old snapshot', drilled({ snapshot: '2026' })],
  ['a point in time', drilled({ at: '2026-11-01T00:00:00Z' })],
  ['another place', drilled({ from: '/other' })],
  ['a share', drilled(undefined, 0.5)],
])('a drill of %s does not', async (_, report) => {
  await saveDrilled(directory, report);
  expect(await lastMeasured(directory)).toEqual({});
});
