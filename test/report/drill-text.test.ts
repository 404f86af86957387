import { describe, expect, test } from 'vitest';
import type { DrillReport, DrillResult } from '../../src/report/drill-report.ts';
import { drillHeadline, drillLine, drillLines } from '../../src/report/drill-text.ts';
import { drillsCsv, drillsMarkdown } from '../../src/report/terminal/drills-text.ts';

const good: DrillResult = {
  ...{ source: 'db.postgres', kind: 'postgres', status: 'ok', place: '/backups', snapshot: '20261119T030000Z-aa01be' },
  ...{ heldAt: '2026-11-19T03:00:41.000Z', ageMs: 9 * 3_600_000, restoreMs: 38_000, version: '17.4', notes: [] },
  image: { id: `sha256:${'a'.repeat(64)}`, digest: 'postgres@sha256:bbbb', recorded: true },
  steps: [{ name: 'fetching the dump', durationMs: 400 }],
  summary: '61 tables, 1,523,118 rows equal',
  checks: [{ name: 'rows', of: 'app', result: 'ok', expected: 1_523_118, found: 1_523_118 }],
};
const bad: DrillResult = {
  ...good,
  ...{ source: 'web.media', kind: 'volume', status: 'failed' },
  checks: [
    { name: 'bytes', of: 'web.media', result: 'failed', expected: 12, found: 11 },
    { name: 'grants', of: 'app', result: 'failed', differences: ['tables on which web has SELECT: 60, recorded 61'] },
    { name: 'amcheck', of: 'app', result: 'skipped', detail: 'the image does not have it' },
  ],
};
const report: DrillReport = {
  ...{ id: '20261119T120000Z-4f1c9a', project: 'shop', trigger: 'manual', by: '=cmd|x', status: 'failed' },
  ...{ start: '2026-11-19T12:00:00.000Z', end: '2026-11-19T12:00:52.000Z', agentVersion: '1.2.3', unproven: [] },
  results: [good, bad],
};

describe('a drill in words', () => {
  test('says what is equal, how long the restore took, and what was restored', () => {
    expect(drillLine(good)).toBe(
      'db.postgres: 61 tables, 1,523,118 rows equal · restored in 38s · snapshot 20261119T030000Z-aa01be, 9h old · image postgres@sha256:bbbb',
    );
    const part = { ...good, status: 'unproven' as const };
    expect(drillLine(part)).toMatch(/^db\.postgres: 61 tables, 1,523,118 rows equal; proved only a part · /);
    const { summary: _, ...without } = part;
    expect(drillLine(without)).toMatch(/^db\.postgres: proved only a part · /);
    expect(drillHeadline(report)).toBe('shop: drill failed in 52s · 2 sources');
  });

  test('names each difference, and what was not checked', () => {
    expect(drillLines(report).slice(1)).toEqual([
      expect.stringMatching(/^web\.media: failed: 2 of 3 checks · /),
      '  failed: bytes of web.media: expected 12, found 11',
      '  failed: grants of app',
      '    tables on which web has SELECT: 60, recorded 61',
      '  not checked: amcheck of app (the image does not have it)',
    ]);
  });
});

describe('the evidence of a period', () => {
  const evidence = { project: 'shop', drills: [{ ...report, signature: 'signed' }], problems: [] };
  const NOW = new Date('2026-11-20T12:00:00Z');

  test('is a page of Markdown, in which no text of others is markup', () => {
    const page = drillsMarkdown({ ...evidence, project: 'shop | <b>' }, NOW);
    expect(page).toContain('# Restore tests of shop \\| \\<b\\>');
    expect(page).toContain('- Drills: 1. Restores: 2, of them failed: 1.');
    expect(page).toContain('- db.postgres: 1 restore, longest restore 38s, oldest data 9h.');
    expect(page).toContain('1 of 1 signed and verified; the chain is complete.');
    expect(page).toMatch(
      /\| 2026-11-19 12:00 UTC \| db\.postgres \| 20261119T030000Z-aa01be \| 9h \| ok \| 38s \| 1 ok \|/,
    );
    expect(page).toContain('  - bytes of web.media: expected 12, found 11');
  });

  test('is a CSV that no spreadsheet runs', () => {
    const [head, first] = drillsCsv(evidence).split('\r\n');
    expect(head?.split(',').slice(0, 6)).toEqual(['drill', 'start', 'end', 'trigger', 'by', 'source']);
    expect(first).toContain(",'=cmd|x,db.postgres,");
  });
});
