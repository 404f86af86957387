import { realpath, statfs } from 'node:fs/promises';
import type { FileMounts, LeftOutData } from '../../plan/values/file-mounts.ts';
import { type DataDirectory, findDataDirectories } from '../filesystem/data-directory.ts';
import { findFileMounts } from '../filesystem/file-mounts.ts';
import { displayPath, pathUnder } from '../filesystem/path.ts';
import { type WalkOptions, walk } from '../filesystem/walk.ts';
import { isSqliteAt, isWithoutItsLogAt, SQLITE_PAGE } from '../sqlite/sqlite-file.ts';

/** The content of a tree. If `whole` is false, counting was cut short and the numbers are lower bounds. */
export interface MeasuredTree {
  files: number;
  /** total size of all files */
  bytes: number;
  whole: boolean;
  /** number of SQLite databases */
  databases: number;
  /** paths of the first databases, for display */
  examples: string[];
  /** paths of the first databases that are mounted without their logs, for display */
  withoutLog: string[];
  /** the file system belongs to another machine, and the locks of its programs are not visible here */
  remote: boolean;
  /** data directories of database servers, including those that are left out */
  dataDirectories: DataDirectory[];
}

/** Default of the upper bound for the time that counting takes, milliseconds. */
const LIMIT_MS = 5000;
const EXAMPLES = 3;
/** Magic numbers of NFS, SMB, SMB 2, FUSE, 9P and Ceph, see statfs(2). */
const REMOTE = [0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x65735546, 0x01021997, 0x00c36400];

/** Selects what to count, see `StoreTreeOptions`, and limits the time, milliseconds. */
interface MeasureOptions extends WalkOptions {
  leaveOut?: LeftOutData | undefined;
  fileMounts?: FileMounts | undefined;
  limitMs?: number;
}

/** Counts files and databases in bounded time, without reading the files. Throws TREE_UNREADABLE. */
export async function measureTree(
  root: string,
  { leaveOut, fileMounts, limitMs = LIMIT_MS, ...options }: MeasureOptions,
): Promise<MeasuredTree> {
  const dataDirectories: DataDirectory[] = [];
  const measured: MeasuredTree = {
    ...{ files: 0, bytes: 0, whole: true, databases: 0, examples: [], withoutLog: [], remote: false },
    dataDirectories,
  };
  const enter = findDataDirectories(dataDirectories, leaveOut);
  const absolute = pathUnder(await realpath(root).catch(() => root));
  const mountedAlone = await findFileMounts(root, fileMounts);
  const end = performance.now() + limitMs;
  for await (const { path, stat } of walk(root, { ...options, enter })) {
    if (stat?.type === 'file') {
      measured.files += 1;
      measured.bytes += stat.size;
      const mayBeDatabase = stat.size >= SQLITE_PAGE && stat.size % SQLITE_PAGE === 0;
      if (mayBeDatabase && isSqliteAt(absolute(path))) {
        measured.databases += 1;
        if (measured.examples.length < EXAMPLES) measured.examples.push(displayPath(path));
        const isKnown = measured.withoutLog.length >= EXAMPLES;
        const isWithout = !isKnown && isWithoutItsLogAt(absolute(path), mountedAlone.has(path));
        if (isWithout) measured.withoutLog.push(displayPath(path));
      }
    }
    if (performance.now() > end) return { ...measured, whole: false };
  }
  if (measured.databases > 0) measured.remote = REMOTE.includes((await statfs(root)).type);
  return measured;
}
