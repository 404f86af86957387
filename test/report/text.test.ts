import { describe, expect, test } from 'vitest';
import { copyLines, copyStateLines } from '../../src/report/copy-text.ts';
import { displayWidth } from '../../src/report/format.ts';
import { ansiPaint } from '../../src/report/paint.ts';
import { headline, renderError, renderProgress, renderReport } from '../../src/report/text.ts';
import { makeFailure, makeReport, makeResult, NOW } from './fixtures.ts';

const MIB = 1024 ** 2;
const options = { now: NOW, zone: 'Europe/Berlin' };

test('a good run', () => {
  const report = makeReport({
    pruned: { snapshots: 1, objects: 3, bytes: 161 * MIB },
    results: [
      makeResult({
        name: 'db.postgres',
        kind: 'postgres',
        durationMs: 12_000,
        bytes: 1.4 * 1024 * MIB,
        newBytes: 158 * MIB,
        summary: '2 databases, 61 tables, 1,523,118 rows',
      }),
      makeResult(),
      makeResult({
        name: 'config',
        kind: 'files',
        durationMs: 200,
        bytes: 12_390,
        newBytes: 0,
        newFiles: 0,
        summary: '3 files',
      }),
    ],
  });
  expect(renderReport(report, options)).toBe(
    [
      'Snapshot 20261120T030000Z-4f1c9a · 41s · 19.6 GiB seen, 161 MiB new',
      '  db.postgres   ok    12s   2 databases, 61 tables, 1,523,118 rows · 158 MiB new',
      '  web.media     ok    29s   20,114 files · 3.1 MiB new (17 files)',
      '  config        ok     0s   3 files, unchanged',
      '  pruned 1 old snapshot; 161 MiB freed',
      '  next run tomorrow 03:00 CET (in 22h 59m)',
    ].join('\n'),
  );
});

test('a run with every kind of problem', () => {
  const report = makeReport({
    status: 'failed',
    results: [
      makeResult({ status: 'partial', warnings: Array.from({ length: 8 }, (_, i) => `file ${i} changed`) }),
      makeFailure({ error: { code: 'PG_AUTH', message: 'refused\nthe credentials' } }),
    ],
    problems: [
      { severity: 'error', code: 'LABEL_UNKNOWN', subject: 'worker', message: 'unknown label', hint: 'Fix it.' },
    ],
    error: { code: 'ENGINE_UNREACHABLE', message: 'no source could be backed up', hint: 'See below.' },
  });
  delete report.snapshot;
  delete report.nextRun;
  delete report.results[1]?.lastGood;
  const indent = ' '.repeat(34);
  expect(renderReport(report, { ...options, failedFirst: true })).toBe(
    [
      'Backup of shop failed · 41s · 18.2 GiB seen, 3.1 MiB new · nothing stored',
      '  error: no source could be backed up (ENGINE_UNREACHABLE)',
      '    hint: See below.',
      '  db.postgres   failed     12s   refused the credentials (PG_AUTH)',
      `${indent}not safe: nothing is stored of this source yet`.slice(1),
      '  web.media     partial    29s   20,114 files · 3.1 MiB new (17 files)',
      ...[0, 1, 2, 3, 4].map((i) => `${indent}warning: file ${i} changed`.slice(1)),
      `${indent}and 3 more warnings`.slice(1),
      '  ! worker: unknown label (LABEL_UNKNOWN)',
      '    hint: Fix it.',
    ].join('\n'),
  );
});

test('colours change nothing but colours', () => {
  const report = makeReport({ status: 'partial', results: [makeFailure(), makeResult()] });
  const bare = renderReport(report, options);
  const painted = renderReport(report, { ...options, paint: ansiPaint });
  expect(painted).not.toBe(bare);
  expect(painted.replace(new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g'), '')).toBe(bare);
});

test('a failed source names the last good snapshot', () => {
  expect(renderReport(makeReport({ results: [makeFailure()] }), options)).toContain(
    'safe: the last good snapshot is 24h old (20261119T030000Z-aa01be)',
  );
});

test.each([
  ['ok', 'shop: backup ok'],
  ['partial', 'shop: backup partly failed (1 of 2 sources)'],
  ['failed', 'shop: backup failed'],
] as const)('headline of %s', (status, text) => {
  expect(headline(makeReport({ status, results: [makeFailure(), makeResult()] }))).toBe(text);
});

test('an error with all its parts', () => {
  const error = { code: 'PG_AUTH', message: 'refused', cause: 'password\nwrong', hint: 'Set it.' } as const;
  expect(renderError(error, { safe: 'all is well' })).toBe(
    ['error: refused (PG_AUTH)', '  cause: password wrong', '  hint: Set it.', '  safe: all is well'].join('\n'),
  );
});

describe('progress', () => {
  test('with all details', () => {
    const progress = { source: 'db.postgres', phase: 'dumping app', done: 612 * MIB, total: 1.1 * 1024 * MIB };
    expect(renderProgress(progress, { bytesPerSecond: 214 * MIB, leftMs: 2_600 })).toBe(
      'db.postgres   dumping app 612 MiB of ~1.1 GiB · 214 MiB/s · 3s left',
    );
  });

  test('with few details, and an estimated total that was too low', () => {
    expect(renderProgress({ source: 'a', phase: 'reading', done: 0, files: 1 }, undefined, 3)).toBe(
      'a     reading 0 B · 1 file',
    );
    expect(renderProgress({ source: 'a', phase: 'reading', done: 2048, total: 1024 })).toContain('2.0 KiB of ~2.0 KiB');
  });
});

test('hostile names neither break lines nor reach the terminal', () => {
  const name = 'x\u001b[2J\n你\u202e';
  const text = renderReport(makeReport({ results: [makeResult({ name }), makeFailure({ name: 'a' })] }), options);
  expect(text.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\u202e]/u);
  const rows = text.split('\n').slice(1, 3);
  const column = (row = '', word = '') => displayWidth(row.slice(0, row.indexOf(word)));
  expect(column(rows[0], ' ok ')).toBe(column(rows[1], ' failed '));
});

test('a good run names the sources that it left out and that need attention', () => {
  const others = [
    {
      name: 'db.postgres',
      attention: 'failed' as const,
      at: '2026-11-19T03:00:41Z',
      error: { code: 'PG_AUTH' as const, message: 'the database refused the credentials' },
      lastGood: { snapshot: '20261117T030000Z-aa01be', at: '2026-11-17T03:00:41Z' },
    },
  ];
  expect(headline(makeReport({ others }))).toBe('shop: backup ok, but db.postgres needs attention');
  const two = [...others, { name: 'x', attention: 'late' as const }];
  expect(headline(makeReport({ others: two }))).toBe('shop: backup ok, but 2 other sources need attention');
  expect(renderReport(makeReport({ others: two }), { now: NOW, zone: 'UTC' })).toContain(
    [
      '  ! db.postgres was not part of this run and needs attention: it failed 24h ago: the database refused the credentials (PG_AUTH); the last good snapshot is 3 days old (20261117T030000Z-aa01be)',
      '  ! x was not part of this run and needs attention: it was not backed up at its last two scheduled times; nothing is stored of this source yet',
    ].join('\n'),
  );
});

describe('copies', () => {
  const copies = [
    { name: '/nas', status: 'ok' as const, snapshots: 0, objects: 0, bytes: 0 },
    {
      ...{ name: 's3://acme/shop', status: 'ok' as const, snapshots: 2, objects: 5, bytes: 161 * MIB },
      pruned: { snapshots: 1, objects: 3, bytes: 3 * MIB },
    },
    {
      ...{ name: 's3://far/shop', status: 'failed' as const, snapshots: 0, objects: 0, bytes: 0 },
      behindSince: '2026-11-18T03:00:41Z',
      error: {
        code: 'DEST_UNREACHABLE' as const,
        message: 's3://far/shop does not answer',
        hint: 'Check the network.',
      },
    },
  ];

  test('are listed, each with the copied size and how long it has been behind', () => {
    const report = makeReport({ status: 'partial', copies });
    expect(headline(report)).toBe('shop: backup partly failed (1 copy is behind)');
    expect(renderReport(report, options).split('\n').slice(2, -1)).toEqual([
      '  copy /nas is up to date',
      '  copy s3://acme/shop is up to date · 2 snapshots, 161 MiB sent · pruned 1 old snapshot · 3.0 MiB freed',
      '  ! copy s3://far/shop has been behind for 2 days: s3://far/shop does not answer (DEST_UNREACHABLE)',
      '    hint: Check the network.',
    ]);
  });

  test('freed bytes are not attributed to snapshots', () => {
    const pruned = (over: object) =>
      copyLines(
        [{ ...copies[1]!, snapshots: 0, objects: 0, pruned: { snapshots: 0, objects: 0, bytes: 0, ...over } }],
        NOW,
      );
    expect(pruned({ objects: 2, bytes: 1.2 * MIB })).toEqual(['  copy s3://acme/shop is up to date · 1.2 MiB freed']);
    expect(pruned({})).toEqual(['  copy s3://acme/shop is up to date']);
    expect(pruned({ refused: { snapshots: 2, objects: 0 } })[0]).toMatch(
      / · 2 old snapshots that the destination refuses/,
    );
  });

  test('appear in the headline next to the sources', () => {
    const report = makeReport({ status: 'partial', copies, results: [makeResult(), makeFailure()] });
    expect(headline(report)).toBe('shop: backup partly failed (1 of 2 sources, 1 copy is behind)');
  });

  test('are reported between runs', () => {
    const complete = '2026-11-20T01:00:41Z';
    expect(copyStateLines([{ name: '/nas', complete }, { name: '/new' }, { ...copies[2]!, complete }], NOW)).toEqual([
      '  copy /nas · complete 2h ago',
      '  copy /new · no record of it yet',
      '  ! copy s3://far/shop has been behind for 2 days: s3://far/shop does not answer (DEST_UNREACHABLE) · complete 2h ago',
      '    hint: Check the network.',
    ]);
  });
});
