import type { LeftOutData } from '../../plan/values/file-mounts.ts';
import { shortPath, type TreePath } from './path.ts';

/** Recognises data directories of database servers by the names in them. */

/** The kind of server that a data directory belongs to. */
type DataKind =
  | 'PostgreSQL'
  | 'MySQL or MariaDB'
  | 'ClickHouse'
  | 'Redis or Valkey (append-only files)'
  | 'MongoDB'
  | 'RocksDB'
  | 'LevelDB'
  | 'Elasticsearch or OpenSearch'
  | 'LMDB'
  | 'Prometheus'
  | 'a Lifeboat repository';

/** A directory of a tree that holds the data of a server. */
export interface DataDirectory {
  /** for display; `.` is the root of the tree */
  path: string;
  kind: DataKind;
  /** its content is not stored */
  leftOut: boolean;
}

/** A version directory of a tablespace: `PG_17_202406281` (Postgres docs, 66.1 "Database File Layout"). */
const TABLESPACE = /^PG_\d+(\.\d+)?_\d{9}$/;

type Signs = (has: (name: string) => boolean, names: readonly string[]) => boolean;

const some = (names: readonly string[], pattern: RegExp) => names.some((name) => pattern.test(name));

/**
 * Names that the data directory of each server has from its first start. A Redis dump (`dump.rdb`) is not among them:
 * Redis writes it under another name and renames it, so a copy of it is whole.
 */
const SIGNS: readonly [DataKind, Signs][] = [
  ['a Lifeboat repository', (has) => has('lifeboat.json')],
  // Each database inside has a PG_VERSION too, and so may an archive of something else.
  ['PostgreSQL', (has, names) => (has('PG_VERSION') && (has('base') || has('global'))) || some(names, TABLESPACE)],
  ['MySQL or MariaDB', (has) => has('ibdata1')],
  [
    'ClickHouse',
    (has) => has('store') && has('metadata') && ['data', 'status', 'uuid', 'preprocessed_configs'].some(has),
  ],
  ['Redis or Valkey (append-only files)', (has) => has('appendonlydir') || has('appendonly.aof')],
  ['MongoDB', (has) => has('WiredTiger') && has('WiredTiger.wt')],
  ['LMDB', (has) => has('data.mdb') && has('lock.mdb')],
  ['Prometheus', (has) => has('chunks_head') && has('wal')],
  ['Elasticsearch or OpenSearch', (has) => has('node.lock') && has('_state')],
];

/** Returns the kind of a data directory by the names in it, or undefined for any other directory. */
function dataKindOf(names: readonly string[]): DataKind | undefined {
  const known = new Set(names);
  const has = (name: string) => known.has(name);
  const found = SIGNS.find(([, signs]) => signs(has, names))?.[0];
  if (found) return found;
  if (!has('CURRENT') || !some(names, /^MANIFEST-\d+$/)) return undefined;
  return some(names, /^OPTIONS-\d+$/) ? 'RocksDB' : 'LevelDB';
}

/**
 * Returns true for a data directory that a tree leaves out. A dump covers only the directory of the server that runs:
 * the one with a `postmaster.pid`. A base backup or an archived directory next to it has none (Postgres docs, 66.1
 * "Database File Layout").
 */
function isLeftOut(kind: DataKind, names: readonly string[], leaveOut: LeftOutData | undefined): boolean {
  if (leaveOut !== 'PostgreSQL') return leaveOut === 'all';
  return kind === 'PostgreSQL' && (names.includes('postmaster.pid') || some(names, TABLESPACE));
}

/**
 * Returns the `enter` callback of a walk that finds the outermost data directories and leaves out some of them. With
 * `all`, the root itself does not count, because nothing would be left. Found directories are added to `found`, up to
 * {@link MAX_FOUND}.
 */
export function findDataDirectories(found: DataDirectory[], leaveOut?: LeftOutData) {
  let inside: TreePath | undefined;
  return (path: TreePath, names: readonly string[]): boolean => {
    // The walk is depth first: the content of the last data directory follows directly.
    if (inside !== undefined && (inside === '' || path.startsWith(`${inside}/`))) return true;
    inside = undefined;
    const kind = leaveOut === 'all' && path === '' ? undefined : dataKindOf(names);
    if (kind === undefined) return true;
    inside = path;
    const leftOut = isLeftOut(kind, names, leaveOut);
    if (found.length < MAX_FOUND) found.push({ path: shortPath(path), kind, leftOut });
    return !leftOut;
  };
}

const MAX_FOUND = 20;
