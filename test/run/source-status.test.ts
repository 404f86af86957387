import { describe, expect, test } from 'vitest';
import { errorOf, othersOf } from '../../src/backup/others.ts';
import { renderSourceStatuses } from '../../src/commands/status-text.ts';
import type { Plan } from '../../src/plan/model.ts';
import { overall } from '../../src/report/events.ts';
import { safety } from '../../src/report/last-good.ts';
import { plainPaint } from '../../src/report/paint.ts';
import {
  type Attention,
  type LastResult,
  listSourceStatuses,
  resultsOf,
  type SourceStatusInput,
} from '../../src/run/source-status.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { withListsOf } from '../../src/store/repository/pack-lists.ts';
import { makeFailure, makeReport, makeResult } from '../report/fixtures.ts';
import { fakeLists } from '../store/pack-lists.ts';

const plan = (...names: string[]) =>
  ({
    project: 'shop',
    problems: [],
    sources: names.map((name) => ({ name, schedule: '0 3 * * *' })),
  }) as unknown as Plan;
const manifest = (day: number, sources: Record<string, 'ok' | 'partial' | 'failed'>) =>
  ({
    id: `202611${day}T030000Z-aaaaaa`,
    end: `2026-11-${day}T03:05:00.000Z`,
    sources: Object.fromEntries(
      Object.entries(sources).map(([name, status]) => [name, { kind: 'volume', status, bytes: 1024, files: 1 }]),
    ),
  }) as unknown as Manifest;
const result = (day: number, status: LastResult['status']): LastResult => ({
  run: `202611${day}T080000Z-bbbbbb`,
  at: `2026-11-${day}T08:00:00.000Z`,
  status,
  ...(status === 'failed' ? { error: { code: 'PG_AUTH', message: 'refused' } } : {}),
});
const ask = (over: Partial<SourceStatusInput>) =>
  listSourceStatuses({
    plan: plan('a', 'b'),
    manifests: [],
    results: {},
    accepted: {},
    zone: 'UTC',
    now: new Date('2026-11-20T09:00:00Z'),
    ...over,
  });
const attention = (over: Partial<SourceStatusInput>) =>
  Object.fromEntries(ask(over).map((one) => [one.name, one.attention]));

test('a successful run of one source does not hide that another has failed, with or without a snapshot', () => {
  expect(attention({ manifests: [manifest(20, { a: 'ok' }), manifest(19, { a: 'ok', b: 'failed' })] })).toEqual({
    a: null,
    b: 'failed',
  });
  // A run that stored nothing has no manifest.
  expect(attention({ manifests: [manifest(20, { a: 'ok', b: 'ok' })], results: { b: result(20, 'failed') } })).toEqual({
    a: null,
    b: 'failed',
  });
});

test('a schedule for weekdays is not late at a weekend', () => {
  // The 20th is a Friday.
  const weekdays = { ...plan('a'), sources: [{ name: 'a', schedule: '0 3 * * 1-5' }] } as unknown as Plan;
  const at = (now: string) => attention({ plan: weekdays, manifests: [manifest(20, { a: 'ok' })], now: new Date(now) });
  expect(at('2026-11-22T23:00:00Z')).toEqual({ a: null });
  expect(at('2026-11-23T09:00:00Z')).toEqual({ a: null });
  expect(at('2026-11-24T03:00:00Z')).toEqual({ a: 'late' });
});

test('the newest result counts, wherever it is recorded', () => {
  const manifests = [manifest(20, { a: 'ok', b: 'partial' })];
  expect(attention({ manifests, results: { a: result(19, 'failed'), b: result(19, 'ok') } })).toEqual({
    a: null,
    b: 'partial',
  });
  expect(attention({ manifests, results: { b: result(20, 'ok') } })).toEqual({ a: null, b: null });
});

test.each([
  ['2026-11-21T02:59:00Z', null],
  ['2026-11-21T03:01:00Z', null],
  ['2026-11-22T02:59:00Z', null],
  ['2026-11-22T03:00:00Z', 'late'],
])('last good on the 20th at 03:05, nightly: at %s it is %s', (now, expected) => {
  expect(attention({ plan: plan('a'), manifests: [manifest(20, { a: 'ok' })], now: new Date(now) })).toEqual({
    a: expected,
  });
});

test('each source follows its own schedule', () => {
  const own = plan('a', 'b');
  (own.sources[0] as { schedule: string }).schedule = '0 3 * * 0';
  const input = { plan: own, manifests: [manifest(15, { a: 'ok', b: 'ok' })], now: new Date('2026-11-20T09:00:00Z') };
  expect(attention(input)).toEqual({ a: null, b: 'late' });
});

test('a vanished source is reported until a user accepts that; a new source is no failure', () => {
  const manifests = [manifest(20, { a: 'ok', gone: 'ok' })];
  expect(attention({ manifests })).toEqual({ a: null, b: 'never', gone: 'vanished' });
  const accepted = { gone: '2026-11-20T08:00:00.000Z' };
  expect(attention({ manifests, accepted })).toEqual({ a: null, b: 'never' });
  expect(othersOf(ask({ manifests }), ['a']).map(({ name }) => name)).toEqual(['gone']);
});

test('a run reports sources that it left out', () => {
  const all = ask({
    manifests: [manifest(20, { a: 'ok' }), manifest(18, { b: 'ok' })],
    results: { b: result(19, 'failed') },
  });
  const others = othersOf(all, ['a']);
  expect(others).toEqual([
    {
      name: 'b',
      attention: 'failed',
      at: '2026-11-19T08:00:00.000Z',
      error: { code: 'PG_AUTH', message: 'refused' },
      lastGood: { snapshot: '20261118T030000Z-aaaaaa', at: '2026-11-18T03:05:00.000Z' },
    },
  ]);
  expect(othersOf(all, ['a', 'b'])).toEqual([]);
  expect(overall(makeReport({ others }))).toBe('partial');
  expect(overall(makeReport())).toBe('ok');
});

test('the report about each source', () => {
  const statuses = (report: ReturnType<typeof makeReport>) =>
    Object.fromEntries(
      Object.entries(resultsOf(report)).map(([name, { status, error }]) => [name, [status, error?.code]]),
    );
  expect(statuses(makeReport({ status: 'partial', results: [makeResult(), makeFailure()] }))).toEqual({
    'web.media': ['ok', undefined],
    'db.postgres': ['failed', 'PG_RESTARTED'],
  });
  const died = makeReport({ status: 'failed', results: [], error: { code: 'RUN_DIED', message: 'it died' } });
  const { snapshot: _none, ...without } = died;
  expect(statuses(without)).toEqual({ 'web.media': ['failed', 'RUN_DIED'] });
  // Its manifest has their outcomes.
  expect(statuses(died)).toEqual({});
  // The capture succeeded, but the run committed nothing.
  expect(statuses({ ...without, results: [makeResult()] })).toEqual({ 'web.media': ['failed', 'RUN_DIED'] });
});

test('status shows each source with its result, its last good backup, and why it needs attention', () => {
  const all = ask({
    manifests: [manifest(20, { a: 'ok' }), manifest(18, { b: 'ok' })],
    results: { b: result(19, 'failed') },
  });
  expect(
    renderSourceStatuses(all, { now: new Date('2026-11-20T09:00:00Z'), paint: plainPaint, unread: false }),
  ).toEqual([
    '  a   ok       5h ago    last good 5h ago       1.0 KiB   20261120T030000Z-aaaaaa',
    '  b   failed   25h ago   last good 2 days ago   1.0 KiB   20261118T030000Z-aaaaaa',
    '  ! b: refused (PG_AUTH)',
  ]);
});

test('a drop in a source needs attention until a user accepts it, and does not fail other runs', () => {
  const before = manifest(18, { a: 'ok' });
  const after = manifest(19, { a: 'ok' });
  const entry = after.sources.a;
  if (entry) entry.fell = { since: before.id, why: ['rows fell by 60 %'] };
  const over = { plan: plan('a'), manifests: [manifest(20, { a: 'ok' }), after, before] };
  const [status] = ask({ ...over, now: new Date('2026-11-20T09:00:00Z') });
  expect(status).toMatchObject({ attention: 'fell', fell: { since: before.id, at: after.end } });
  expect(othersOf(status ? [status] : [], [])).toEqual([]);
  expect(
    renderSourceStatuses(status ? [status] : [], {
      now: new Date('2026-11-20T09:00:00Z'),
      paint: plainPaint,
      unread: false,
    }).join('\n'),
  ).toMatch(
    new RegExp(`a: rows fell by 60 % \\(.* ago\\)\n.*lifeboat restore ${before.id} a\`; .*lifeboat accept a\``),
  );
  expect(attention({ ...over, accepted: { a: '2026-11-19T09:00:00.000Z' } })).toEqual({ a: null });
  // After a second drop, the snapshot between them may be empty.
  const second = manifest(20, { a: 'ok' });
  if (second.sources.a) second.sources.a.fell = { since: after.id };
  const [twice] = ask({ ...over, manifests: [second, after, before], now: new Date('2026-11-20T09:00:00Z') });
  expect(twice?.fell?.since).toBe(before.id);
  // Removed with the snapshot itself, so nothing has to stay.
  expect(attention({ ...over, manifests: over.manifests.slice(0, 2) })).toEqual({ a: null });
});

test('a source without a complete snapshot has no last good snapshot; its newest is called partly failed', () => {
  const all = ask({ plan: plan('a'), manifests: [manifest(20, { a: 'partial' }), manifest(19, { a: 'partial' })] });
  const [row] = renderSourceStatuses(all, { now: new Date('2026-11-20T09:00:00Z'), paint: plainPaint, unread: false });
  expect(row).toContain('none whole, newest 5h ago');
  expect(row).not.toContain('last good');
  const [other] = othersOf(all, []);
  expect(other?.lastGood).toMatchObject({ snapshot: '20261120T030000Z-aaaaaa', partial: true });
  expect(safety(other ?? {}, new Date('2026-11-20T09:05:00Z'))).toBe(
    'no snapshot is whole; the newest (partly failed) snapshot is 6h old (20261120T030000Z-aaaaaa)',
  );
  const [good] = othersOf(
    ask({ plan: plan('a'), manifests: [manifest(20, { a: 'partial' }), manifest(19, { a: 'ok' })] }),
    [],
  );
  expect(good?.lastGood).toEqual({ snapshot: '20261119T030000Z-aaaaaa', at: '2026-11-19T03:05:00.000Z' });
});

test('without the snapshots, status does not say that a source was never backed up', () => {
  const options = { now: new Date('2026-11-20T09:00:00Z'), paint: plainPaint, unread: true };
  const lines = renderSourceStatuses([{ name: 'web.media', attention: 'late' }], options).map((line) => line.trim());
  expect(lines).toEqual([expect.stringMatching(/^web\.media +unknown +snapshots unknown/)]);
});

test('a source whose last good snapshot needs a damaged object needs attention', async () => {
  const { list, readPackList } = fakeLists();
  const [older, newer] = [manifest(19, { a: 'ok' }), manifest(20, { a: 'ok' })];
  Object.assign(older.sources.a ?? {}, { packs: list('shop/packs/a/old.zip') });
  Object.assign(newer.sources.a ?? {}, { packs: list('shop/packs/a/new.zip') });
  const of = async (key: string) => {
    const damaged = await withListsOf({ readPackList }, [newer.sources.a ?? {}], [key]);
    return attention({ plan: plan('a'), manifests: [newer, older], damaged });
  };
  expect(await of('shop/packs/a/new.zip')).toEqual({ a: 'damaged' });
  expect(await of('shop/packs/a/old.zip')).toEqual({ a: null });
});

describe('a source whose emptiness was accepted', () => {
  const empty = { ...result(20, 'failed'), error: { code: 'TREE_EMPTY', message: 'a holds no files at all' } as const };
  const judged = (over: Partial<SourceStatusInput>, last: LastResult = empty) =>
    ask({ plan: plan('a'), results: { a: last }, accepted: { a: '2026-11-20T08:30:00.000Z' }, ...over });

  test.each<[string, Partial<SourceStatusInput>, Attention | null]>([
    ['is ok until its next run', { manifests: [manifest(19, { a: 'ok' })] }, null],
    [
      'is late if no run follows',
      { manifests: [manifest(19, { a: 'ok' })], now: new Date('2026-11-22T09:00:00Z') },
      'late',
    ],
    ['is not backed up yet if it was never stored', {}, 'never'],
    ['is late if it was never stored and no run follows', { now: new Date('2026-11-23T09:00:00Z') }, 'late'],
  ])('%s', (_, over, expected) => {
    const all = judged(over);
    expect(all.map(({ attention }) => attention)).toEqual([expected]);
    const options = { now: over.now ?? new Date('2026-11-20T09:00:00Z'), paint: plainPaint, unread: false };
    expect(renderSourceStatuses(all, options).join('\n')).not.toContain('TREE_EMPTY');
    expect(all.map(errorOf)).toEqual([undefined]);
  });

  test.each<[string, number, Attention | null]>([
    ['after the acceptance, by the chain, although the clock was ahead then', 8, 'failed'],
    ['before the acceptance, by the chain, although the clock fell back', 7, null],
  ])('fails again %s', (_, after, expected) => {
    const at = after === 8 ? '2027-11-20T08:00:00.000Z' : '2026-11-19T08:00:00.000Z';
    const all = judged(
      {
        manifests: [{ ...manifest(19, { a: 'ok' }), sequence: 6 }],
        accepted: { a: { at, sequence: 7, losses: ['empty'] } },
      },
      { ...empty, after },
    );
    expect(all[0]?.attention).toBe(expected);
  });

  test('is compared with the place of the snapshot that records the failure', () => {
    const failed = { ...manifest(20, { a: 'failed', b: 'ok' }), sequence: 8 };
    const [entry] = [failed.sources.a];
    if (entry) entry.error = empty.error;
    const manifests = [failed, { ...manifest(19, { a: 'ok' }), sequence: 7 }];
    const of = (sequence: number, at: string) =>
      judged({ manifests, results: {}, accepted: { a: { at, sequence } } })[0]?.attention;
    expect(of(6, '2027-11-20T08:00:00.000Z')).toBe('failed');
    expect(of(8, '2026-11-19T08:00:00.000Z')).toBeNull();
  });
});
