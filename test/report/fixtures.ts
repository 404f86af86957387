import type { RunReport, SourceReport } from '../../src/report/events.ts';

/** 03:00:41 UTC, right after the runs that {@link makeReport} creates. */
export const NOW = new Date('2026-11-20T03:00:41Z');

export function makeResult(over: Partial<SourceReport> = {}): SourceReport {
  return {
    name: 'web.media',
    kind: 'volume',
    status: 'ok',
    durationMs: 29_000,
    bytes: 18.2 * 1024 ** 3,
    files: 20_114,
    newBytes: 3.1 * 1024 ** 2,
    newFiles: 17,
    summary: '20,114 files',
    warnings: [],
    ...over,
  };
}

export function makeFailure(over: Partial<SourceReport> = {}): SourceReport {
  return makeResult({
    name: 'db.postgres',
    kind: 'postgres',
    status: 'failed',
    durationMs: 12_000,
    bytes: 0,
    files: 0,
    newBytes: 0,
    newFiles: 0,
    summary: '',
    error: {
      code: 'PG_RESTARTED',
      message: 'dump ended early: container restarted',
      cause: 'connection closed',
      hint: 'Run it again when the database is up.',
    },
    lastGood: { snapshot: '20261119T030000Z-aa01be', at: '2026-11-19T03:00:00Z' },
    ...over,
  });
}

export function makeReport(over: Partial<RunReport> = {}): RunReport {
  return {
    id: '20261120T030000Z-4f1c9a',
    rid: '8c5bd0a4-3c4d-4c1e-9f59-0c3f5f1a2b3c',
    project: 'shop',
    trigger: 'schedule',
    start: '2026-11-20T03:00:00Z',
    end: '2026-11-20T03:00:41Z',
    status: 'ok',
    snapshot: '20261120T030000Z-4f1c9a',
    sources: ['web.media'],
    results: [makeResult()],
    problems: [],
    destination: '/backups',
    logTail: ['2026-11-20T03:00:00Z info run started', '2026-11-20T03:00:41Z info run finished'],
    nextRun: '2026-11-21T02:00:00Z',
    ...over,
  };
}
