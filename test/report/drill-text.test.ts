import { describe, expect, test } from 'vitest';
import { corrections } from '../../src/report/drill-proof.ts';
import type { DrillReport, DrillResult } from '../../src/report/drill-report.ts';
import { drillHeadline, drillLine, drillLines } from '../../src/report/drill-text.ts';
import { drillMarkdown } from '../../src/report/terminal/drill-page.ts';
import { drillsCsv } from '../../src/report/terminal/drills-csv.ts';
import { drillsMarkdown } from '../../src/report/terminal/drills-text.ts';

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

  test('names the drills that came to no source, and what was done about failures', () => {
    const unbegun = { ...report, id: '20261112T060000Z-4f1c9a', start: '2026-11-12T06:00:00.000Z', results: [] };
    const error = { code: 'DEST_UNREACHABLE' as const, message: 'the disk | is away' };
    const drills = [
      { ...report, corrected: { 'web.media': '20261126T060000Z-00000a' } },
      { ...unbegun, error },
    ];
    const page = drillsMarkdown({ ...evidence, drills }, NOW);
    expect(page).toContain('- Drills: 2, of them could not begin: 1. Restores: 2, of them failed: 1.');
    expect(page).toMatch(
      /\| 2026-11-12 06:00 UTC \| {2}\| {2}\| {2}\| failed: the disk \\\| is away \(DEST\\_UNREACHABLE\) \|/,
    );
    expect(page).toContain('  - Corrected by drill 20261126T060000Z-00000a.');
    expect(page).toContain('the whole drill: the disk \\| is away (DEST\\_UNREACHABLE)\n  - Not corrected yet');
    const lines = drillsCsv({ ...evidence, drills }).split('\r\n');
    expect(lines[3]).toMatch(/^20261112T060000Z-4f1c9a,.*,failed,.*the disk \| is away \(DEST_UNREACHABLE\)/);
    expect(lines[2]).toContain(',20261126T060000Z-00000a,');
  });

  test('says what was not proven, and that a share is not the whole', () => {
    const share = {
      ...good,
      source: 'web.media',
      summary: '3 files',
      share: 0.05,
      restoreMs: 1000,
      notes: ['a <note>'],
    };
    const drills = [
      { ...report, status: 'ok' as const, results: [good, share], unproven: ['web.media: lacks a part'] },
    ];
    const page = drillsMarkdown({ ...evidence, drills }, NOW);
    expect(page).toContain('| ok for 5 % of the files | 1s |');
    expect(page).toContain('- web.media: 1 restore, restored only in parts, oldest data 9h.');
    expect(page).toContain('## What was not proven\n\n- web.media: lacks a part (2026-11-19 12:00 UTC)');
    expect(page).toContain('- web.media: a \\<note\\> (2026-11-19 12:00 UTC)');
    const [head, , line] = drillsCsv({ ...evidence, drills }).split('\r\n');
    const at = (name: string) => line?.split(',')[head?.split(',').indexOf(name) ?? -1];
    expect([at('share'), at('unproven'), at('notes')]).toEqual(['0.05', 'web.media: lacks a part', 'a <note>']);
  });

  test('compares what was measured with the targets', () => {
    const missed = { ...good, rto: { targetMs: 10_000, met: false }, rpo: { targetMs: 86_400_000, met: true } };
    const page = drillsMarkdown({ ...evidence, drills: [{ ...report, results: [missed] }] }, NOW);
    expect(page).toContain('| 9h (target 1d) | ok | 38s (target 10s, not met) |');
    expect(page).toContain('oldest data 9h, targets not met: 1.');
    expect(drillLine(missed)).toContain(
      'restored in 38s (target 10s, not met) · snapshot 20261119T030000Z-aa01be, 9h old',
    );
  });

  test('is a CSV that no spreadsheet runs', () => {
    const [head, first] = drillsCsv(evidence).split('\r\n');
    expect(head?.split(',').slice(0, 6)).toEqual(['drill', 'start', 'end', 'trigger', 'by', 'source']);
    expect(first).toContain(",'=cmd|x,db.postgres,");
    // Some spreadsheets part lines at semicolons.
    const drills = [{ ...report, by: 'anna;=cmd|x', unproven: ['+1', '\t@x'] }];
    const [, line] = drillsCsv({ ...evidence, drills }).split('\r\n');
    expect(line).toContain(`,"anna;'=cmd|x",`);
    expect(line).toContain(`,"'+1\n\t'@x",`);
  });
});

describe('the evidence of one drill', () => {
  const drill = { ...report, signature: 'signed', sequence: 7, hash: 'a'.repeat(64), corrected: {} };

  test('is a page with all that an auditor asks', () => {
    const target = { rto: { targetMs: 3_600_000, met: true }, rpo: { targetMs: 86_400_000, met: true } };
    const page = drillMarkdown({ ...drill, results: [{ ...good, ...target }, bad], unproven: ['config: no key'] });
    for (const line of [
      '# Restore test 20261119T120000Z-4f1c9a',
      '- When: 2026-11-19 12:00 UTC to 2026-11-19 12:00 UTC.',
      '- Asked by: \\=cmd\\|x (manual).',
      '- Asked for: all sources; the newest snapshot.',
      '- Made with: Lifeboat 1.2.3.',
      `- Evidence: number 7 of its chain, signed and verified, SHA-256 ${'a'.repeat(64)}.`,
      '## db.postgres: ok',
      '- Snapshot: 20261119T030000Z-aa01be, data of 2026-11-19 03:00 UTC',
      '- Age of the data (RPO): 9h (target 1d)',
      '- Read from: /backups',
      '- Restored in (RTO): 38s (target 1h)',
      '- Restored on: Postgres 17.4',
      '- Image: postgres@sha256:bbbb, as recorded',
      '- Steps: fetching the dump 0.4s',
      '| rows | app | ok | 1523118 | 1523118 |  |',
      '## web.media: failed',
      '- Not corrected yet: no later drill proves it.',
      '| bytes | web.media | FAILED | 12 | 11 |  |',
      '| grants | app | FAILED |  |  | tables on which web has SELECT: 60, recorded 61 |',
      '| amcheck | app | not checked |  |  | the image does not have it |',
      '- config: no key',
    ])
      expect(page.split('\n')).toContain(line);
  });

  test('has no markup of others', () => {
    const evil = '# [x](https://evil.example) <img src=x> `c` | **b** &lt; www.evil.example $x$';
    const page = drillMarkdown({ ...drill, results: [{ ...good, notes: [evil], source: evil }] });
    expect(page).toContain(
      '- Note: \\# \\[x\\](https\\://evil.example) \\<img src=x\\> \\`c\\` \\| \\*\\*b\\*\\* \\&lt; www\\.evil.example \\$x\\$',
    );
  });
});

describe('a correction', () => {
  const drill = (day: number, results: Partial<DrillResult>[], fields: Partial<DrillReport> = {}): DrillReport => ({
    ...report,
    ...{ id: `202611${day}T060000Z-4f1c9a`, status: 'ok', results: results.map((one) => ({ ...good, ...one })) },
    ...fields,
  });
  const failing = drill(10, [{ status: 'failed' }, { source: 'web.media' }], { status: 'failed' });
  const found = (...later: DrillReport[]) => corrections([failing, ...later], '/backups').get(failing.id);

  test('is the next good drill of the source', () => {
    expect(found()).toEqual({});
    const bad = drill(11, [{ status: 'failed' }], { status: 'failed' });
    const early = drill(12, [{ status: 'interrupted' }]);
    expect(found(bad, early, drill(13, [{}]), drill(14, [{}]))).toEqual({ 'db.postgres': drill(13, []).id });
  });

  test('is not a drill of an old snapshot, or of another place', () => {
    const old = drill(11, [{}], { asked: { snapshot: '2026' } });
    const point = drill(12, [{}], { asked: { at: '2026-11-01T00:00:00Z' } });
    const away = drill(13, [{ place: '/other' }], { asked: { from: '/other' } });
    expect(found(old, point, away)).toEqual({});
    // Somebody with the key ran it for this repository.
    const elsewhere = drill(14, [{ place: '/backups' }], { asked: { from: '/backups' } });
    expect(found(old, elsewhere)).toEqual({ 'db.postgres': elsewhere.id });
  });

  test('of a drill that could not begin is the next one that does', () => {
    const unbegun = drill(10, [], { status: 'failed' });
    const all = [unbegun, drill(11, [{ status: 'interrupted' }]), drill(12, [{ status: 'failed' }])];
    expect(corrections(all, '').get(unbegun.id)).toEqual({ '*': drill(12, []).id });
  });
});
