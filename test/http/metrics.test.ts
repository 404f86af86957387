import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Sample } from '../../src/http/metric.ts';
import { METRICS } from '../../src/http/metric-table.ts';
import { RunCounter } from '../../src/http/totals.ts';
import type { RanRun } from '../../src/record/run-log.ts';
import { makeFacts, NOW, serve } from './fixtures.ts';

const START = '<!-- table: made from the code by UPDATE_DOCS=1 npm run test:unit -->\n';
const END = '<!-- end of table -->\n';

test('docs/monitoring.md lists every metric with its labels (UPDATE_DOCS=1 rewrites it)', () => {
  const rows = Object.entries(METRICS)
    .map(([name, { type, labels, help }]) => {
      const own = labels.map((label) => `\`${label}\``).join(', ');
      return `| \`${name}\` | ${type} | ${own} | ${help.replace(/\.$/, '')} |\n`;
    })
    .join('');
  const expected = `| metric | type | labels | value |\n| --- | --- | --- | --- |\n${rows}`;
  const file = new URL('../../docs/monitoring.md', import.meta.url);
  const [before, rest] = readFileSync(file, 'utf8').split(START);
  const [actual, after] = rest!.split(END);
  if (process.env.UPDATE_DOCS) writeFileSync(file, before + START + expected + END + after);
  else expect(actual).toBe(expected);
});

test('alerts and the dashboard name only metrics that there are', () => {
  const root = new URL('../../docker/monitoring/', import.meta.url);
  for (const name of ['alerts.yml', 'alerts.test.yml', 'grafana/dashboards/lifeboat.json']) {
    const used = new Set(readFileSync(new URL(name, root), 'utf8').match(/\blifeboat_[a-z_]+/g));
    expect(used.size).toBeGreaterThan(4);
    expect([...used].filter((metric) => !(metric in METRICS))).toEqual([]);
  }
  const docs = readFileSync(new URL('../../docs/monitoring.md', import.meta.url), 'utf8');
  const alerts = readFileSync(new URL('alerts.yml', root), 'utf8').match(/(?<=alert: )\w+/g);
  expect(docs.match(/(?<=^\| `)Lifeboat\w+/gm)).toEqual(alerts);
});

/** The samples of a scrape, as `name{labels}` → value. */
async function scrape(options: Parameters<typeof serve>[0] = {}): Promise<Map<string, number>> {
  const response = await serve(options).request('/metrics');
  expect(response.status).toBe(200);
  const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}

describe('a scrape', () => {
  test('has the facts that status has', async () => {
    const found = await scrape();
    const of = (name: string) => found.get(name);
    expect(of('lifeboat_backup_last_success_timestamp_seconds{project="shop",source="web.media"}')).toBe(
      Date.parse('2026-11-28T02:00:42Z') / 1000,
    );
    expect(of('lifeboat_backup_duration_seconds{project="shop",source="db.postgres"}')).toBe(13);
    expect(of('lifeboat_snapshots{project="shop",source="web.media"}')).toBe(10);
    expect(of('lifeboat_snapshots{project="shop",source="db.postgres.base"}')).toBe(3);
    expect(of('lifeboat_copy_lag_seconds{project="shop",copy="s3://acme-backups/shop"}')).toBe(0);
    expect(of('lifeboat_recoverable_gaps{project="shop",source="db.postgres"}')).toBe(0);
    expect(of('lifeboat_repository_cost{project="shop",place="s3://acme-backups/shop"}')).toBe(0.6);
    expect(of('lifeboat_destination_up{project="shop"}')).toBe(1);
    expect(of('lifeboat_build_info{project="shop",version="1.0.0"}')).toBe(1);
  });

  test('places with the same name are not added up', async () => {
    const facts = makeFacts();
    const complete = '2026-11-28T02:00:00.000Z';
    facts.overview.copies = [
      { name: 's3://b/x', complete },
      { name: 's3://b/x', complete },
    ];
    const found = await scrape({ facts });
    expect(found.get('lifeboat_copy_complete_timestamp_seconds{project="shop",copy="s3://b/x"}')).toBe(
      Date.parse(complete) / 1000,
    );
  });

  test('an unreadable destination and a copy that is behind', async () => {
    const problem = new LifeboatError('DEST_UNREACHABLE', 'no answer');
    const facts = makeFacts({
      found: { manifests: [], damaged: [], objects: [], problem },
      copies: [{ name: '/nas', behindSince: new Date(NOW.getTime() - 90_000).toISOString() }],
    });
    const found = await scrape({ facts });
    expect(found.get('lifeboat_destination_up{project="shop"}')).toBe(0);
    expect(found.get('lifeboat_problems{project="shop",code="DEST_UNREACHABLE"}')).toBe(1);
    expect(found.get('lifeboat_copy_lag_seconds{project="shop",copy="/nas"}')).toBe(90);
    expect([...found.keys()].some((key) => key.startsWith('lifeboat_backup_last_success'))).toBe(false);
  });

  test('a hostile name cannot forge a sample', async () => {
    const name = 'a"} 1\nlifeboat_source_ok{project="other';
    const facts = makeFacts();
    facts.overview.sources = facts.overview.sources.map((source) => ({ ...source, name }));
    const text = await (await serve({ facts }).request('/metrics')).text();
    expect(text.split('\n').filter((line) => line.startsWith('lifeboat_source_ok{project="other'))).toEqual([]);
  });

  test('no label has values that nobody bounds', () => {
    const labels = new Set(Object.values(METRICS).flatMap((metric) => metric.labels));
    expect([...labels].sort()).toEqual(['code', 'copy', 'place', 'source', 'status', 'version']);
    // A source that nothing plans any more and no snapshot holds has no series, even if the place still has its packs.
    const facts = makeFacts();
    facts.overview.places = [{ name: '/b', now: { at: '', bytes: 1, objects: 1, sources: { gone: 1 } } }];
    const input = { facts, now: NOW, version: '', running: false, receivers: new Map() };
    const samples: Sample[] =
      METRICS.lifeboat_repository_source_bytes?.read({ ...input, totals: new RunCounter('').totals }) ?? [];
    expect(samples).toEqual([]);
  });
});

describe('counters', () => {
  const run = (id: string, end: string, over: Partial<RanRun> = {}): RanRun => ({
    ...{ id, end, start: end, trigger: 'schedule', status: 'ok', sources: {} },
    ...over,
  });

  test('count each run once, and none from before the start', () => {
    const counter = new RunCounter('2026-01-02');
    const first = run('a', '2026-01-01');
    const second = run('b', '2026-01-03', { status: 'failed', code: 'DEST_FULL' });
    counter.see([first]);
    counter.see([first, second]);
    counter.see([first, second]);
    // The oldest part of the log is gone.
    counter.see([run('c', '2026-01-04')]);
    expect(counter.totals.runs).toEqual({ ok: 1, partial: 0, failed: 1 });
    expect(counter.totals.errors).toEqual(new Map([['DEST_FULL', 1]]));
  });

  test('count runs also if the clock was ahead when Lifeboat started', () => {
    const counter = new RunCounter('2031-01-01');
    const first = run('a', '2026-01-01');
    counter.see([first]);
    counter.see([first, run('b', '2026-01-03')]);
    expect(counter.totals.runs.ok).toBe(1);
  });

  test('count an error of several sources of a run once', () => {
    const failed = { status: 'failed', durationMs: 0, bytes: 0, newBytes: 0, code: 'PG_AUTH' } as const;
    const counter = new RunCounter('2026-01-01');
    counter.see([run('a', '2026-01-02', { status: 'partial', sources: { x: failed, y: failed } })]);
    expect(counter.totals.errors).toEqual(new Map([['PG_AUTH', 1]]));
  });
});
