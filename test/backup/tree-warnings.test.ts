import { describe, expect, test } from 'vitest';
import { treeErrors, treeSummary, treeWarnings } from '../../src/backup/tree-warnings.ts';
import type { VolumeSource } from '../../src/plan/model.ts';
import { emptyResult, type StoredTree } from '../../src/store/content/stored-tree.ts';

const source = { kind: 'volume', name: 'web.data', stop: [] } as unknown as VolumeSource;
const stopped = { ...source, stop: [{ id: 'x', name: 'web' }] };

/** A tree with `n` problems of each kind. */
function treeOf(count: number): StoredTree {
  const issues = Array.from({ length: count }, (_, i) => ({ path: `f${i + 1}`, message: 'why' }));
  return {
    ...emptyResult(),
    files: count,
    databases: count,
    unreadable: issues,
    unreadableCount: count,
    changed: issues,
    changedCount: count,
    torn: issues,
    tornCount: count,
    damaged: issues,
    damagedCount: count,
    noted: issues,
    notedCount: count,
    skipped: { fifo: count, block: count },
  };
}

const texts = (tree: StoredTree, of: VolumeSource = source) => [
  treeSummary(tree),
  ...treeErrors(of, tree).map(({ code, message }) => `${code}: ${message}`),
  ...treeWarnings(of, tree),
];
const STOP = 'Set the label lifeboat.stop: "true" on the service, so that nothing writes while its files are read.';

describe('the warnings about a tree', () => {
  test('with one problem of each kind', () => {
    expect(texts(treeOf(1))).toEqual([
      '1 file, 1 SQLite database',
      'TREE_UNREADABLE: 1 path of web.data could not be read: f1 (why)',
      'SQLITE_TORN: 1 SQLite database of web.data may be unusable: f1 (why)',
      'SQLITE_DAMAGED: 1 SQLite database of web.data is damaged: f1 (why)',
      `1 file kept changing while being read: f1. ${STOP}`,
      '1 SQLite database: f1 (why)',
      'without content, so only recorded: 1 FIFO, 1 block device',
    ]);
  });

  test('with more problems than are named', () => {
    const named = 'f1 (why), f2 (why), f3 (why)';
    expect(texts(treeOf(1234))).toEqual([
      '1,234 files, 1,234 SQLite databases',
      `TREE_UNREADABLE: 1,234 paths of web.data could not be read: ${named}`,
      `SQLITE_TORN: 1,234 SQLite databases of web.data may be unusable: ${named}`,
      `SQLITE_DAMAGED: 1,234 SQLite databases of web.data are damaged: ${named}`,
      `1,234 files kept changing while being read: among them f1, f2, f3. ${STOP}`,
      `1,234 SQLite databases: ${named}`,
      'without content, so only recorded: 1,234 FIFOs, 1,234 block devices',
    ]);
  });

  test('does not name lifeboat.stop if the service is already stopped', () => {
    const [error] = treeErrors(stopped, { ...emptyResult(), torn: [], tornCount: 1 });
    expect(error?.hint).toBe(
      'Find out what writes there besides this service, and stop it with a lifeboat.exec.pre hook.',
    );
  });

  test('says in the summary what is left out', () => {
    const found = ['a', 'b', 'c', 'd'].map((path) => ({ path, kind: 'MongoDB' as const, leftOut: path !== 'b' }));
    const summaryOf = (count: number) =>
      treeSummary({ ...emptyResult(), files: 2, dataDirectories: found.slice(0, count) });
    expect(summaryOf(2)).toBe('2 files, without a (MongoDB)');
    expect(summaryOf(4)).toBe('2 files, without a (MongoDB), c (MongoDB), d (MongoDB)');
    const root = { path: '.', kind: 'PostgreSQL' as const, leftOut: true };
    expect(treeSummary({ ...emptyResult(), dataDirectories: [root, root, root, root] })).toBe(
      '0 files, without the data of PostgreSQL, the data of PostgreSQL, the data of PostgreSQL and 1 more',
    );
  });

  test('is nothing without problems', () => {
    expect(texts({ ...emptyResult(), files: 2 })).toEqual(['2 files']);
  });

  test.each([
    [undefined, /lifeboat\.stop/],
    ['space' as const, /spool/],
    ['name' as const, /one name/],
  ])('a database that may be unusable has the hint of its reason (%s)', (cause, hint) => {
    const torn = [{ path: 'app.db', message: 'why', ...(cause && { cause }) }];
    expect(treeErrors(source, { ...emptyResult(), torn, tornCount: 1 })[0]?.hint).toMatch(hint);
  });
});

test.each([
  [['length'], /^Everything else is stored\. Rename or move/],
  [[undefined], /^Everything else is stored\. Check the file system and the permissions of these paths\.$/],
  [[undefined, 'length'], /permissions.*Rename or move/],
] as const)('the hint about unreadable paths follows from their causes: %j', (causes, hint) => {
  const unreadable = causes.map((cause) => ({ path: 'f', message: 'why', ...(cause && { cause }) }));
  const [error] = treeErrors(source, { ...treeOf(0), unreadable, unreadableCount: unreadable.length });
  expect(error?.hint).toMatch(hint);
});
