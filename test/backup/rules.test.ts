import { describe, expect, test } from 'vitest';
import { destinationError } from '../../src/app/destinations.ts';
import { problemsOf } from '../../src/backup/begin.ts';
import { vanishedOutcome } from '../../src/backup/outcome.ts';
import {
  clockProblems,
  emptyRunError,
  groupByHold,
  judgeEmpty,
  refuseClear,
  runStatus,
} from '../../src/backup/rules.ts';
import { shrinkageWarnings } from '../../src/backup/shrinkage.ts';
import type { Loss } from '../../src/plan/accepted.ts';
import type { Mount, Plan, PlannedSource, VolumeSource } from '../../src/plan/model.ts';
import { lastGoodOf, lastStoredOf, vanishedSources } from '../../src/run/history.ts';
import type { Manifest, ManifestSource } from '../../src/store/objects/manifest.ts';
import { makeResult } from '../report/fixtures.ts';

const volume = (name: string, over: Partial<VolumeSource> = {}): VolumeSource => ({
  kind: 'volume',
  name,
  project: 'shop',
  service: 'web',
  containerId: 'c1',
  containerName: 'shop-web-1',
  schedule: '0 3 * * *',
  keep: {},
  mount: { type: 'volume', name: 'v', source: '/v', destination: '/v', writable: true },
  include: [],
  exclude: [],
  stop: [],
  ...over,
});

const entry = (over: Partial<ManifestSource> = {}): ManifestSource => ({
  kind: 'volume',
  status: 'ok',
  files: 100,
  bytes: 1000,
  newFiles: 0,
  newBytes: 0,
  summary: '',
  warnings: [],
  skipped: {},
  ...over,
});

const manifest = (id: string, sources: Record<string, ManifestSource>) =>
  ({ id, end: `2026-11-${id}T03:00:00Z`, sources }) as unknown as Manifest;
const planOf = (...names: string[]): Plan => ({
  project: 'shop',
  sources: names.map((name) => volume(name)),
  problems: [],
});

describe('holds', () => {
  test('databases come first, files last, and the volumes of one container are held together', () => {
    const first = { id: 'c1', name: 'shop-web-1' };
    const stop = { stop: [first] };
    const sources: PlannedSource[] = [
      { ...volume('config'), kind: 'files', root: '/config' } as unknown as PlannedSource,
      volume('web.a', stop),
      volume('other.x', { containerId: 'c2' }),
      volume('web.b', { stop: [first, { id: 'c4', name: 'shop-web-2' }] }),
      { ...volume('db.postgres', { containerId: 'c3' }), kind: 'postgres' } as unknown as PlannedSource,
    ];
    const groups = groupByHold(sources);
    expect(
      groups.map(({ hold, sources: group }) => [hold?.stop.map(({ id }) => id), group.map(({ name }) => name)]),
    ).toEqual([
      [undefined, ['db.postgres']],
      // Both containers of the service, each one once.
      [
        ['c1', 'c4'],
        ['web.a', 'web.b'],
      ],
      [undefined, ['other.x']],
      [undefined, ['config']],
    ]);
    expect(groups[1]?.hold?.container).toEqual({ id: 'c1', name: 'shop-web-1', project: 'shop', service: 'web' });
  });

  test('a held container belongs to its own project, which may differ from that of the agent', () => {
    const [group] = groupByHold([volume('blog.web.a', { project: 'blog', stop: [{ id: 'c1', name: 'blog-web-1' }] })]);
    expect(group?.hold?.container.project).toBe('blog');
    expect(group?.hold?.stop).toEqual([{ id: 'c1', name: 'blog-web-1', project: 'blog', service: 'web' }]);
  });
});

describe('the outcome of a source', () => {
  const snapshots = [
    manifest('21', { a: entry({ status: 'failed' }), b: entry() }),
    manifest('20', { a: entry(), gone: entry() }),
  ];

  test('its last good snapshot is the newest in which it did not fail', () => {
    expect(lastGoodOf(snapshots, 'a')?.snapshot).toBe('20');
    expect(lastGoodOf(snapshots, 'b')?.snapshot).toBe('21');
    expect(lastGoodOf(snapshots, 'c')).toBeUndefined();
  });

  test('its last good snapshot is a complete one, even if a newer one is partial; the next run builds on the newer one', () => {
    const partial = entry({ status: 'partial' });
    const gaps = [
      manifest('23', { a: entry({ status: 'failed' }) }),
      manifest('22', { a: partial, b: partial }),
      manifest('21', { a: entry(), b: partial }),
    ];
    expect([lastGoodOf(gaps, 'a')?.snapshot, lastStoredOf(gaps, 'a')?.snapshot]).toEqual(['21', '22']);
    // No complete snapshot exists, so a partial one counts.
    expect([lastGoodOf(gaps, 'b')?.snapshot, lastStoredOf(gaps, 'b')?.snapshot]).toEqual(['22', '22']);
    const names = (at: string) => vanishedSources(gaps, planOf('b'), { accepted: { a: at } }).map(({ name }) => name);
    // Accepted before the newest snapshot that holds it: it has returned since.
    expect([names('2026-11-21T12:00:00Z'), names('2026-11-22T12:00:00Z')]).toEqual([['a'], []]);
  });

  test('it has vanished if snapshots have it and the plan does not, until a user accepts that', () => {
    const names = (accepted: Record<string, string>) =>
      vanishedSources(snapshots, planOf('a', 'b'), { accepted }).map(({ name }) => name);
    expect(names({})).toEqual(['gone']);
    expect(names({ gone: '2026-11-20T09:00:00Z' })).toEqual([]);
    // Accepted before it was last stored: it has returned since.
    expect(names({ gone: '2026-11-19T09:00:00Z' })).toEqual(['gone']);
  });

  test('a loss of another kind than the accepted one is not accepted', () => {
    const accepted = (...losses: Loss[]) => ({ gone: { at: '2026-11-20T09:00:00Z', sequence: 99, losses } });
    const inChain = snapshots.map((one) => ({ ...one, sequence: 1 }));
    const names = (...losses: Loss[]) => vanishedSources(inChain, planOf('a', 'b'), { accepted: accepted(...losses) });
    expect(names('gone')).toEqual([]);
    expect(names('fall', 'empty')).toMatchObject([{ name: 'gone' }]);
  });

  describe('whose service has a new name', () => {
    const mount = { type: 'volume', name: 'shop_media', source: '/v', destination: '/data', writable: true };
    const volume = (name: string, over = {}) => ({ name, kind: 'volume', mount: { ...mount, ...over } });
    const data = { type: 'bind', source: '/srv/pg', destination: '/var/lib/postgresql', writable: true };
    const database = (name: string) => ({
      name,
      kind: 'postgres',
      mounts: [mount, data],
      dataDirectories: ['/var/lib/postgresql/17/docker'],
    });
    const places = { 'web.media': 'volume shop_media', 'db.postgres': '/srv/pg', 'web.old': 'volume shop_old' };
    const gone = (sources: object[], names = Object.keys(places)) => {
      const entries = Object.fromEntries(
        names.map((name) => [name, entry({ kind: name.endsWith('postgres') ? 'postgres' : 'volume' })]),
      );
      const plan = { project: 'shop', problems: [], sources } as unknown as Plan;
      return vanishedSources([manifest('20', entries)], plan, { accepted: {}, places });
    };

    test.each([
      [
        'a volume',
        volume('app.media'),
        'web.media',
        'volume shop_media',
        'lifeboat.name: web on the service of app.media',
      ],
      ['a database', database('database.postgres'), 'db.postgres', '/srv/pg', 'lifeboat.name: db on the service of'],
      ['a volume of another name', volume('app.files'), 'web.media', 'volume shop_media', undefined],
    ])('is reported with the new name: %s', (_what, planned, name, place, label) => {
      const found = gone([planned]).find((one) => one.name === name);
      expect(found?.renamed).toMatchObject({ to: planned.name, place });
      const { message, hint = '' } = vanishedOutcome(found!).report.error ?? {};
      expect(message).toContain(`${place} is now backed up as ${planned.name}`);
      expect(hint).toContain(`lifeboat accept ${name}`);
      if (label) expect(hint).toContain(label);
      else expect(hint).not.toContain('lifeboat.name');
    });

    test.each([
      ['a source with a history of its own', [volume('app.files')], { 'app.files': 'volume shop_files' }, undefined],
      ['a new source', [volume('app.files', { name: 'shop_files' })], {}, 'web'],
      ['a source that moved too', [volume('app.old', { name: 'shop_old' })], { 'app.old': 'volume shop_old' }, 'web'],
      ['a source whose former name has other data', [volume('app.old', { name: 'shop_new' })], {}, undefined],
      ['a source of the former service', [volume('web.files', { name: 'shop_files' })], {}, undefined],
    ])(
      'has the label that continues its history only if no other history changes: %s',
      (_what, others, more, label) => {
        const stored = [...Object.keys(places), ...Object.keys(more), 'app.media'];
        const found = gone([volume('app.media'), ...others], stored).find((one) => one.name === 'web.media');
        expect(found?.renamed?.label).toBe(label);
        const { hint } = vanishedOutcome(found!).report.error ?? {};
        expect(hint?.includes('lifeboat.name')).toBe(label !== undefined);
      },
    );

    test.each([
      ['another volume', volume('app.media', { name: 'shop_other' })],
      ['a database on a volume that held files', database('web2.postgres')],
      ['nothing', undefined],
    ])('is not claimed of %s', (_what, planned) => {
      const found = gone(planned ? [planned] : [], ['web.media', 'web.old']);
      expect(found.map(({ renamed }) => renamed)).toEqual([undefined, undefined]);
      expect(vanishedOutcome(found[0]!).report.error?.hint).toContain('Start its container');
    });
  });

  test('a database whose container is stopped is not called gone', () => {
    const plan = {
      ...planOf('a', 'b'),
      stopped: { gone: { container: 'shop-db-1', start: 'docker compose start db' } },
    };
    const [source] = vanishedSources(snapshots, plan, { accepted: {} });
    expect(source).toMatchObject({ name: 'gone', stopped: { container: 'shop-db-1' } });
    expect(vanishedOutcome(source!).report.error).toMatchObject({
      code: 'CONTAINER_STOPPED',
      hint: expect.stringContaining('`docker compose start db`'),
    });
  });
});

test('the date of a snapshot from the future is shown in the zone of the schedule', () => {
  const snapshots = [{ manifest: { id: 'a', sequence: 1, end: '2026-12-11T02:34:11.469Z' } as Manifest }];
  const when = { now: new Date('2026-11-20T03:00:00Z'), zone: 'Europe/Berlin' };
  expect(clockProblems(snapshots, when)).toMatchObject([
    { message: 'the newest snapshot is dated Fri 11 Dec 03:34 CET, which is in the future' },
  ]);
});

test('a run is ok only if everything that it selects is stored', () => {
  const good = makeResult();
  const bad = makeResult({ status: 'failed' });
  const warning = { severity: 'warning', code: 'CONTAINER_STOPPED', subject: 's', message: 'm' } as const;
  const error = { ...warning, severity: 'error' } as const;
  expect(runStatus([], [])).toBe('failed');
  expect(runStatus([bad], [])).toBe('failed');
  expect(runStatus([good, bad], [])).toBe('partial');
  expect(runStatus([makeResult({ status: 'partial' })], [])).toBe('partial');
  expect(runStatus([good], [error])).toBe('partial');
  expect(runStatus([good], [warning])).toBe('ok');
  // The error stands for its problem.
  const why = { code: 'CONTAINER_STOPPED', message: 's: m' };
  expect(emptyRunError([warning, error])).toEqual({ error: why, problems: [warning] });
  expect(emptyRunError([])).toMatchObject({ error: { code: 'NOTHING_LABELLED' }, problems: [] });
});

describe('a drop in a source', () => {
  test.each([
    [{ bytes: 500, files: 50 }, 0],
    [{ bytes: 499, files: 50 }, 1],
    [{ bytes: 499, files: 49 }, 2],
    [{ bytes: 5000, files: 500 }, 0],
  ])('%j of 1000 bytes and 100 files: %i warnings', (now, count) => {
    expect(shrinkageWarnings(entry(), now, 0.5)).toHaveLength(count);
  });

  test('is measured by rows and bytes if rows are known, and not at all the first time', () => {
    expect(shrinkageWarnings(entry({ rows: 10_000 }), { bytes: 900, files: 1, rows: 999 }, 0.5)).toEqual([
      'rows fell by 90 % since the last good snapshot: from 10,000 to 999',
    ]);
    // The same number of rows, but with hardly any content.
    expect(shrinkageWarnings(entry({ rows: 10_000 }), { bytes: 20, files: 1, rows: 10_000 }, 0.5)).toEqual([
      'size in bytes fell by 98 % since the last good snapshot: from 1,000 to 20',
    ]);
    expect(shrinkageWarnings(entry(), { bytes: 20, files: 100, likeSizes: false }, 0.5)).toEqual([]);
    expect(shrinkageWarnings(entry({ rows: 0 }), { bytes: 1000, files: 1, rows: 0 }, 0.5)).toEqual([]);
    expect(shrinkageWarnings(undefined, { bytes: 0, files: 0 }, 0.5)).toEqual([]);
  });
});

describe('the destination', () => {
  const mount = (over: Partial<Mount>): Mount => ({
    type: 'bind',
    source: '/srv/backups',
    destination: '/backups',
    writable: true,
    ...over,
  });
  test.each([
    ['/backups', [mount({})], undefined],
    ['/backups/deep/down', [mount({ type: 'volume', name: 'b' })], undefined],
    ['/backups', [], 'DEST_NOT_MOUNTED'],
    ['/backups-2', [mount({})], 'DEST_NOT_MOUNTED'],
    ['/backups', [mount({ type: 'tmpfs' })], 'DEST_NOT_MOUNTED'],
    ['/backups', [mount({ writable: false })], 'DEST_UNWRITABLE'],
    // The innermost mount decides.
    ['/backups/b', [mount({}), mount({ destination: '/backups/b', writable: false })], 'DEST_UNWRITABLE'],
  ])('%s on %j: %s', (where, mounts, code) => {
    expect(destinationError(where, mounts, true)?.code).toBe(code);
  });

  test('may be readable without being writable', () => {
    expect(destinationError('/backups', [mount({ writable: false })], false)).toBeUndefined();
  });
});

test('encrypted backups do not continue unencrypted because a key is missing', () => {
  const snapshot = (sequence: number, suffix: string) => {
    const index = { key: `shop/snapshots/a/web.index.ndjson.zst${suffix}`, size: 1, sha256: '' };
    return { manifest: { sequence, sources: { web: entry({ index }) } } as unknown as Manifest };
  };
  const code = (keys: Parameters<typeof refuseClear>[0], ...snapshots: ReturnType<typeof snapshot>[]) => {
    try {
      refuseClear(keys, snapshots);
      return undefined;
    } catch (error) {
      return (error as { code?: string }).code;
    }
  };
  expect(code({}, snapshot(2, '.age'), snapshot(1, ''))).toBe('KEY_MISSING');
  expect(code({ ageIdentity: 'AGE-SECRET-KEY-1' }, snapshot(1, '.gpg'))).toBe('KEY_MISSING');
  expect(code({ inTheClear: true }, snapshot(1, '.age'))).toBeUndefined();
  expect(code({ ageRecipients: ['age1'] }, snapshot(1, '.gpg'))).toBeUndefined();
  expect(code({}, snapshot(2, ''), snapshot(1, '.age'))).toBeUndefined();
  expect(code({})).toBeUndefined();
});

describe('a source without any file', () => {
  const now = new Date('2026-03-01T12:00:00Z');
  const life = (createdAt: string) => ({
    life: { state: 'running', restartPolicy: 'no', createdAt, startedAt: createdAt, finishedAt: createdAt },
  });
  const judge = (source: VolumeSource, snapshots: Manifest[] = [], accepted = {}) =>
    judgeEmpty(source, { snapshots, accepted, now });
  const had = (files: number) => [manifest('20260228T030000Z-aaaa', { 'web.v': entry({ files }) })];

  test('is no loss if all volumes are selected, as long as it never held a file', () => {
    expect(judge(volume('web.v', { all: true }))).toBe('never filled');
    expect(judge(volume('web.v', { all: true }), had(0))).toBe('never filled');
    expect(judge(volume('web.v', { all: true }), had(3))).toBe('lost');
  });

  test('counts as not yet filled for an hour after its container was created, if it is selected by name', () => {
    expect(judge(volume('web.v', life('2026-03-01T11:50:00Z')))).toBe('not filled yet');
    expect(judge(volume('web.v', life('2026-03-01T10:50:00Z')))).toBe('lost');
    // The runs of that hour store it without files.
    expect(judge(volume('web.v', life('2026-03-01T11:50:00Z')), had(0))).toBe('not filled yet');
    expect(judge(volume('web.v', life('2026-03-01T10:50:00Z')), had(0))).toBe('lost');
    // A recreated container is as new as a container of a new project.
    expect(judge(volume('web.v', life('2026-03-01T11:50:00Z')), had(3))).toBe('lost');
    expect(judge(volume('web.v'))).toBe('lost');
  });
});

test('a run without volumes does not report that the volumes of a stopped container are stored as they are', () => {
  const stopped = { severity: 'warning', code: 'CONTAINER_STOPPED', subject: 'web', message: 'as they are' } as const;
  const database = { ...stopped, severity: 'error', subject: 'crm' } as const;
  const mistake = { severity: 'warning', code: 'LABEL_INVALID', subject: 'web', message: 'no such label' } as const;
  const postgres = { ...volume('db.postgres'), kind: 'postgres' } as unknown as PlannedSource;
  const plan = { ...planOf(), sources: [postgres, volume('web.v')], problems: [stopped, database, mistake] };
  const codes = (only?: (source: PlannedSource) => boolean) => problemsOf(plan as Plan, only ? { only } : {});
  expect(codes()).toEqual([stopped, database, mistake]);
  expect(codes(({ name }) => name === 'web.v')).toEqual([stopped, database, mistake]);
  expect(codes(({ name }) => name === 'db.postgres')).toEqual([database, mistake]);
});
