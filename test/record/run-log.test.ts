import { appendFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { appendRun, readRuns } from '../../src/record/run-log.ts';
import { makeFailure, makeReport, makeResult } from '../report/fixtures.ts';
import { scratchBase } from '../store/helpers.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(scratchBase, 'lifeboat-run-log-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe('the log of runs', () => {
  test('has what each run did with each source', async () => {
    await appendRun(root, makeReport({ status: 'partial', results: [makeResult(), makeFailure()] }));
    expect(await readRuns(root)).toEqual([
      {
        ...{ id: '20261120T030000Z-4f1c9a', trigger: 'schedule', status: 'partial' },
        ...{ start: '2026-11-20T03:00:00Z', end: '2026-11-20T03:00:41Z' },
        sources: {
          'web.media': { status: 'ok', durationMs: 29_000, bytes: 18.2 * 1024 ** 3, newBytes: 3.1 * 1024 ** 2 },
          'db.postgres': { status: 'failed', durationMs: 12_000, bytes: 0, newBytes: 0, code: 'PG_RESTARTED' },
        },
      },
    ]);
  });

  test('a run that failed as a whole failed for each of its sources', async () => {
    const error = { code: 'DEST_FULL', message: 'no space' } as const;
    await appendRun(root, makeReport({ status: 'failed', error, sources: ['a', 'web.media'] }));
    const [run] = await readRuns(root);
    expect(run?.code).toBe('DEST_FULL');
    expect(run?.sources.a).toMatchObject({ status: 'failed', code: 'DEST_FULL' });
    expect(run?.sources['web.media']).toMatchObject({ status: 'failed', code: 'DEST_FULL' });
  });

  test('a line that a kill has cut loses no other run', async () => {
    await appendRun(root, makeReport({ id: 'one' }));
    appendFileSync(path.join(root, 'runs.ndjson'), '\n{"id":"cu');
    await appendRun(root, makeReport({ id: 'two' }));
    expect((await readRuns(root)).map(({ id }) => id)).toEqual(['one', 'two']);
  });

  test('stays small: its older half goes', async () => {
    for (let i = 0; i < 60; i++) await appendRun(root, makeReport({ id: `run ${i}` }), 4000);
    expect(statSync(path.join(root, 'runs.ndjson')).size).toBeLessThan(5000);
    const ids = (await readRuns(root)).map(({ id }) => id);
    expect(ids.length).toBeGreaterThan(5);
    expect(ids.at(-1)).toBe('run 59');
    expect(ids).toEqual(ids.toSorted((a, b) => Number(a.slice(4)) - Number(b.slice(4))));
  });

  test('is empty where there is none', async () => {
    expect(await readRuns('/nowhere')).toEqual([]);
  });
});
