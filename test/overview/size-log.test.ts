import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readSizes, saveSize, sizeProblems } from '../../src/overview/size-log.ts';
import { scratchBase } from '../store/helpers.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(scratchBase, 'lifeboat-size-log-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const sample = (at: string, bytes: number) => ({ at, bytes, objects: 1, sources: { 'web.media': bytes } });

test('places that are measured at the same time lose nothing', async () => {
  const names = Array.from({ length: 8 }, (_, i) => `s3://bucket/${i}`);
  await Promise.all(names.map((name, i) => saveSize(root, name, sample('2026-11-20T03:00:00.000Z', i))));
  const log = await readSizes(root);
  expect(Object.fromEntries(names.map((name) => [name, log[name]?.[0]?.bytes]))).toEqual(
    Object.fromEntries(names.map((name, i) => [name, i])),
  );
});

test('one sample stays of each of the last days, and of each month before', async () => {
  const first = Date.UTC(2026, 0, 1);
  for (let hour = 0; hour < 200 * 24; hour += 12) {
    await saveSize(root, '/backups', sample(new Date(first + hour * 3_600_000).toISOString(), hour));
  }
  const samples = (await readSizes(root))['/backups'] ?? [];
  const days = samples.map(({ at }) => at.slice(0, 10));
  expect(new Set(days).size).toBe(days.length);
  expect(samples.length).toBe(40 + 6);
  expect(days.slice(0, 3)).toEqual(['2026-01-31', '2026-02-28', '2026-03-31']);
  expect(samples.at(-1)?.bytes).toBe(200 * 24 - 12);
  expect(samples.map(({ bytes }) => bytes)).toEqual(samples.map(({ bytes }) => bytes).toSorted((a, b) => a - b));
});

test('a place that holds or costs too much gets a warning', () => {
  const log = { '/b': [sample('2026-11-20T03:00:00.000Z', 600e9)] };
  const warn = (limits: object) =>
    sizeProblems(
      [
        { name: '/b', limits },
        { name: '/none', limits: { warnSize: 1 } },
      ],
      log,
    );
  expect(warn({})).toEqual([]);
  expect(warn({ warnSize: 600e9, pricePerGb: 0.02, warnCost: 12 })).toEqual([]);
  expect(warn({ warnSize: 500e9, pricePerGb: 0.023, warnCost: 10 })).toEqual([
    expect.objectContaining({
      severity: 'warning',
      code: 'DEST_LARGE',
      subject: '/b',
      message: '/b holds 559 GiB, more than 466 GiB, and costs 13.80 a month, more than 10',
    }),
  ]);
});
