import { expect, test } from 'vitest';
import {
  type FormerSnapshots,
  findShrinkage,
  type ShrinkageDeps,
  shrinkageWarnings,
} from '../../src/backup/shrinkage.ts';
import { silentLog } from '../../src/base/log.ts';
import type { LastGood } from '../../src/run/history.ts';
import type { CapturedTree } from '../../src/sources/source.ts';

const facts = (names: string[], over: object = {}) => ({
  kind: 'postgres',
  compression: 'zstd',
  rows: 100,
  databases: names.map((name) => ({ name })),
  ...over,
});
const object = { key: 'k', size: 1, sha256: 'h' };
const last = (over: object = {}) =>
  ({
    snapshot: 's',
    at: 't',
    entry: { rows: 100, bytes: 1000, files: 4, facts: object, ...over },
  }) as unknown as LastGood;
const deps = (before: unknown): ShrinkageDeps => ({
  readFacts: async () => before,
  log: silentLog,
  share: 0.5,
});
/** The only snapshot. */
const former = (good: LastGood | undefined): FormerSnapshots => ({ good, stored: good, withDatabase: () => good });
const falls = async (given: ShrinkageDeps, present: CapturedTree['facts'], size: Size, good: LastGood | undefined) =>
  (await findShrinkage(given, { facts: present }, size, former(good))).warnings;
type Size = Parameters<typeof findShrinkage>[2];
const now = { files: 4, bytes: 900 };

test('a database that the last good snapshot had, but this one lacks, is reported', async () => {
  const before = facts(['app', 'blog', 'shop']);
  expect(await falls(deps(before), facts(['app', 'new']), now, last())).toEqual([
    'database blog is not in this backup, and was in the last good one',
    'database shop is not in this backup, and was in the last good one',
  ]);
  expect(await falls(deps(before), facts(['app', 'blog', 'shop']), now, last())).toEqual([]);
});

test('a server with another system identifier is reported, and the earlier snapshot stays', async () => {
  const on = (systemIdentifier?: string) => facts(['app'], { server: { systemIdentifier } });
  const find = (before: unknown, present: CapturedTree['facts']) =>
    findShrinkage(deps(before), { facts: present }, now, former(last()));
  const found = await find(on('7001'), on('7002'));
  expect(found.fell).toMatchObject({ since: 's', why: found.warnings });
  expect(found.warnings).toEqual([
    'this is another server than in the last snapshot (system identifier 7002, was 7001)',
  ]);
  for (const before of [on('7002'), on(undefined), facts(['app']), undefined]) {
    expect(await find(before, on('7002'))).toEqual({ warnings: [] });
  }
});

test('a much smaller dump with the same number of rows is reported, unless its compression differs', async () => {
  const small = { files: 4, bytes: 100 };
  expect(await falls(deps(facts(['app'])), facts(['app']), small, last())).toEqual([
    'size in bytes fell by 90 % since the last good snapshot: from 1,000 to 100',
  ]);
  const plain = facts(['app'], { compression: 'none' });
  expect(await falls(deps(plain), facts(['app']), small, last())).toEqual([]);
});

test('if facts cannot be read, the sizes are compared; a first backup has nothing to compare', async () => {
  const unreadable = async () => {
    throw new Error('damaged');
  };
  const broken = { ...deps(undefined), readFacts: unreadable };
  expect(await falls(broken, facts([]), { files: 4, bytes: 100 }, last())).toHaveLength(1);
  expect(await falls(broken, facts([]), { files: 0, bytes: 0 }, undefined)).toEqual([]);
  // Facts of files have another form.
  expect(
    await falls(deps(facts(['app'])), { kind: 'volume' }, { files: 1, bytes: 1000 }, last({ rows: undefined })),
  ).toEqual(['number of files fell by 75 % since the last good snapshot: from 4 to 1']);
});

test('a database that could not be dumped is not a drop, and hides no other database', async () => {
  const tables = (rows: number) => [{ schema: 'public', name: 't', owner: 'o', rows, exact: true, bytes: 1 }];
  const database = (name: string, rows: number) => ({ name, tables: tables(rows) });
  const before = facts([], { databases: [database('app', 900), database('blog', 100)] });
  const error = { code: 'PG_DUMP_FAILED' as const, message: 'failed' };
  const missing = [{ name: 'app', error }, { name: 'blog' }];
  const stored = (rows: number) => ({
    facts: facts([], { rows, databases: [database('blog', rows)] }),
    databases: missing,
  });
  const small = { files: 2, bytes: 100 };
  const lastGood = last({ rows: 1000 });
  expect(await findShrinkage(deps(before), stored(100), small, former(lastGood))).toEqual({ warnings: [] });
  expect(await findShrinkage(deps(before), stored(10), small, former(lastGood))).toMatchObject({
    warnings: ['database blog: rows fell by 90 % since the last good snapshot: from 100 to 10'],
    fell: { since: 's' },
  });
});

/** Facts about a server, by the rows of each database. */
const rowsOf = (rows: Record<string, number>) =>
  facts([], {
    rows: Object.values(rows).reduce((sum, one) => sum + one, 0),
    databases: Object.entries(rows).map(([name, count]) => ({ name, tables: [{ name: 't', rows: count }] })),
  });
const error = { code: 'PG_DUMP_FAILED' as const, message: 'failed' };

/** Snapshots of a server, newest first, each with the rows of its databases and the names of those that it lacks. */
function serverOf(...snapshots: { id: string; rows: Record<string, number>; lacks?: string[]; closed?: string[] }[]) {
  const all = snapshots.map(({ id, rows, lacks = [], closed = [] }) => {
    const databases = [
      ...Object.keys(rows).map((name) => ({ name, status: 'ok' })),
      ...lacks.map((name) => ({ name, status: 'failed', error })),
      ...closed.map((name) => ({ name, status: 'closed', error })),
    ];
    const found = last({ databases, facts: { ...object, key: id }, status: lacks.length > 0 ? 'partial' : 'ok' });
    return { ...found, snapshot: id, rows };
  });
  const given: ShrinkageDeps = {
    ...deps(undefined),
    readFacts: async ({ key }) => rowsOf(all.find(({ snapshot }) => snapshot === key)?.rows ?? {}),
  };
  const snapshotsOf: FormerSnapshots = {
    good: all.find(({ entry }) => entry.status === 'ok'),
    stored: all[0],
    withDatabase: (name) => all.find(({ rows }) => name in rows),
  };
  return (rows: Record<string, number>, others: CapturedTree['databases'] = []) => {
    const databases = [...Object.keys(rows).map((name) => ({ name })), ...others];
    return findShrinkage(given, { facts: rowsOf(rows), databases }, now, snapshotsOf);
  };
}

test('each database is compared with the newest snapshot that holds it, even if that one is partial', async () => {
  // app was emptied on Monday, and blog has failed since.
  const after = serverOf(
    { id: '3', rows: { app: 10 }, lacks: ['blog'] },
    { id: '2', rows: { app: 10 }, lacks: ['blog'] },
    { id: '1', rows: { app: 1000, blog: 1000 } },
  );
  expect(await after({ app: 10 }, [{ name: 'blog', error }])).toEqual({ warnings: [] });
  expect(await after({ app: 10, blog: 990 })).toEqual({ warnings: [] });
  expect(await after({ app: 10, blog: 10 })).toMatchObject({
    warnings: ['database blog: rows fell by 99 % since the last good snapshot: from 1,000 to 10'],
    fell: { since: '1' },
  });
  expect(await after({ app: 1, blog: 10 })).toMatchObject({
    warnings: [expect.anything(), expect.anything()],
    fell: { since: '1' },
  });
});

test('a database that failed before and is gone now is a loss, but a closed database is not', async () => {
  const after = serverOf({ id: '2', rows: { app: 10 }, lacks: ['blog'] }, { id: '1', rows: { app: 10, blog: 10 } });
  expect(await after({ app: 10 })).toMatchObject({
    warnings: ['database blog is not in this backup, and was in the last good one'],
    fell: { since: '1' },
  });
  expect(await after({ app: 10 }, [{ name: 'blog', error, closed: true }])).toEqual({ warnings: [] });
  // Never stored, so nothing is lost.
  expect(await serverOf({ id: '1', rows: { app: 10 }, lacks: ['new'] })({ app: 10 })).toEqual({ warnings: [] });
});

test('an emptied small database is reported, however large the others are', async () => {
  expect(await serverOf({ id: '1', rows: { app: 1_000_000, shop: 100 } })({ app: 1_000_000, shop: 0 })).toMatchObject({
    warnings: ['database shop: rows fell by 100 % since the last good snapshot: from 100 to 0'],
    fell: { since: '1' },
  });
});

test('a partial snapshot is not called a good one', () => {
  const fall = (status?: 'ok' | 'partial') =>
    shrinkageWarnings({ bytes: 1000, files: 1, ...(status ? { status } : {}) }, { bytes: 10, files: 1 }, 0.5);
  expect(fall('partial')).toEqual([
    'size in bytes fell by 99 % since the last snapshot, which was partial: from 1,000 to 10',
  ]);
  for (const status of ['ok', undefined] as const)
    expect(fall(status)).toEqual([expect.stringContaining('last good snapshot')]);
});

test('another server after an earlier loss: both snapshots are kept and named', async () => {
  const before = facts(['app'], { server: { systemIdentifier: '1' } });
  const present = facts(['app'], { server: { systemIdentifier: '2' } });
  const find = async (since?: string) => {
    const fall = since === undefined ? undefined : { since, why: [] };
    return (await findShrinkage(deps(before), { facts: present }, now, { ...former(last()), fall })).fell;
  };
  expect(await find()).toMatchObject({ since: 's' });
  expect(await find('s')).not.toHaveProperty('earlier');
  expect(await find('older')).toMatchObject({ since: 's', earlier: 'older' });
});

test('a server that was filled from the last snapshot is not another one; a later one is', async () => {
  const server = (systemIdentifier: string) => facts(['app'], { server: { systemIdentifier } });
  const find = async (present: string, restored: FormerSnapshots['restored']) => {
    const snapshots = { ...former(last()), restored };
    return (await findShrinkage(deps(server('1')), { facts: server(present) }, now, snapshots)).warnings.length;
  };
  expect(await find('2', { snapshot: 's', system: '2' })).toBe(0);
  expect(await find('3', { snapshot: 's', system: '2' })).toBe(1);
  expect(await find('2', { snapshot: 'earlier', system: '2' })).toBe(1);
});

test('a loss that nobody has accepted is reported with each later snapshot', async () => {
  const fall = { since: 'a', why: ['rows fell by 90 %'], at: '2026-11-19T03:00:00.000Z' };
  const same = { facts: facts(['app']) };
  const found = await findShrinkage(deps(facts(['app'])), same, now, { ...former(last()), fall });
  expect(found).toEqual({ warnings: [], fell: fall });
});
