import { describe, expect, test } from 'vitest';
import { type DataDirectory, findDataDirectories } from '../../../src/store/filesystem/data-directory.ts';

/**
 * Walks over directories, each with its names, and returns the data directories it finds and the directories it enters.
 */
function walkOver(directories: Record<string, string[]>, leaveOut?: 'all' | 'PostgreSQL') {
  const found: DataDirectory[] = [];
  const enter = findDataDirectories(found, leaveOut);
  const entered = Object.entries(directories).filter(([path, names]) => enter(path, names));
  return {
    found: found.map(({ path, kind, leftOut }) => `${path}: ${kind}${leftOut ? ' (left out)' : ''}`),
    entered: entered.map(([path]) => path),
  };
}

describe('data directories of database servers', () => {
  test.each([
    ['PostgreSQL', ['PG_VERSION', 'base', 'global', 'pg_wal']],
    ['PostgreSQL', ['PG_17_202406281']],
    ['MySQL or MariaDB', ['ibdata1', 'mysql', 'undo_001']],
    ['ClickHouse', ['data', 'metadata', 'status', 'store', 'uuid']],
    ['Redis or Valkey (append-only files)', ['appendonlydir', 'dump.rdb']],
    ['Redis or Valkey (append-only files)', ['appendonly.aof']],
    ['MongoDB', ['WiredTiger', 'WiredTiger.wt', '_mdb_catalog.wt']],
    ['RocksDB', ['CURRENT', 'MANIFEST-000005', 'OPTIONS-000007', 'LOCK']],
    ['LevelDB', ['CURRENT', 'MANIFEST-000005', 'LOCK']],
    ['LMDB', ['data.mdb', 'lock.mdb']],
    ['Prometheus', ['chunks_head', 'wal', 'lock']],
    ['a Lifeboat repository', ['lifeboat.json', 'shop']],
  ])('%s: %j', (kind, names) => {
    expect(walkOver({ '': ['data'], data: names }).found).toEqual([`data: ${kind}`]);
  });

  test.each([
    // Redis renames a finished dump into place.
    ['a dump of Redis', ['dump.rdb']],
    ['a web project', ['data', 'metadata', 'package.json', 'src']],
    ['a directory of logs', ['wal', 'CURRENT']],
    ['a directory with a file of that name', ['PG_VERSION', 'notes.txt']],
  ])('%s is not a data directory', (_what, names) => {
    expect(walkOver({ '': names }).found).toEqual([]);
  });

  test('only the outermost directory counts, and the walk goes on after it', () => {
    const cluster = ['PG_VERSION', 'base'];
    const { found, entered } = walkOver({
      '': ['a', 'b'],
      a: cluster,
      'a/base': ['1'],
      'a/base/1': ['PG_VERSION'],
      'a-b': ['ibdata1'],
    });
    expect(found).toEqual(['a: PostgreSQL', 'a-b: MySQL or MariaDB']);
    expect(entered).toHaveLength(5);
  });

  test('alongside a dump, the data of the running server is left out even if it is all there is', () => {
    const cluster = ['PG_VERSION', 'base', 'global'];
    expect(walkOver({ '': [...cluster, 'postmaster.pid'] }, 'PostgreSQL')).toEqual({
      found: ['.: PostgreSQL (left out)'],
      entered: [],
    });
    expect(walkOver({ '': ['ibdata1'] }, 'PostgreSQL').entered).toEqual(['']);
  });

  test('alongside a dump, a base backup and an archived data directory are stored', () => {
    const cluster = ['PG_VERSION', 'base', 'global', 'backup_manifest'];
    const { found, entered } = walkOver({ '': ['basebackup'], basebackup: cluster }, 'PostgreSQL');
    expect(found).toEqual(['basebackup: PostgreSQL']);
    expect(entered).toEqual(['', 'basebackup']);
  });

  test('a configuration is stored without any data directory, but never left out as a whole', () => {
    const { found, entered } = walkOver(
      { '': ['lifeboat.json', 'db'], db: ['ibdata1'], old: ['lifeboat.json'] },
      'all',
    );
    expect(entered).toEqual(['']);
    expect(found).toEqual(['db: MySQL or MariaDB (left out)', 'old: a Lifeboat repository (left out)']);
  });
});
