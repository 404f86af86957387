import { realpath, statfs } from 'node:fs/promises';
import type { LeftOutData } from '../../plan/model.ts';
import { type DataDirectory, findDataDirectories } from '../filesystem/data-directory.ts';
import { displayPath, pathUnder } from '../filesystem/path.ts';
import { type WalkOptions, walk } from '../filesystem/walk.ts';
import { isSqliteAt, isWithoutItsLogAt, SQLITE_PAGE } from '../sqlite/sqlite-file.ts';

/** What a tree holds. `whole` is false when counting was cut short: then the numbers are lower bounds. */
export interface MeasuredTree {
  files: number;
  /** of all files together */
  bytes: number;
  whole: boolean;
  /** SQLite databases */
  databases: number;
  /** the paths of the first of them, for people */
  examples: string[];
  /** the paths of the first databases that are mounted without their logs, for people */
  withoutLog: string[];
  /** the file system belongs to another machine, whose programs hold locks that are not seen here */
  remote: boolean;
  /** directories that hold the data of a database server; also those that are left out */
  dataDirectories: DataDirectory[];
}

/** How long counting may take, milliseconds. */
const LIMIT_MS = 5000;
const EXAMPLES = 3;
/** NFS, SMB, SMB 2, FUSE, 9P, Ceph: magic numbers of statfs(2). */
const REMOTE = [0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x65735546, 0x01021997, 0x00c36400];

/** Counts files and databases without reading them, in bounded time. Throws TREE_UNREADABLE. */
export async function measureTree(
  root: string,
  { leaveOut, ...options }: WalkOptions & { leaveOut?: LeftOutData | undefined },
): Promise<MeasuredTree> {
  const dataDirectories: DataDirectory[] = [];
  const measured: MeasuredTree = {
    ...{ files: 0, bytes: 0, whole: true, databases: 0, examples: [], withoutLog: [], remote: false },
    dataDirectories,
  };
  const enter = findDataDirectories(dataDirectories, leaveOut);
  const absolute = pathUnder(await realpath(root).catch(() => root));
  const end = performance.now() + LIMIT_MS;
  for await (const { path, stat } of walk(root, { ...options, enter })) {
    if (stat?.type === 'file') {
      measured.files += 1;
      measured.bytes += stat.size;
      const mayBeDatabase = stat.size >= SQLITE_PAGE && stat.size % SQLITE_PAGE === 0;
      if (mayBeDatabase && isSqliteAt(absolute(path))) {
        measured.databases += 1;
        if (measured.examples.length < EXAMPLES) measured.examples.push(displayPath(path));
        const isKnown = measured.withoutLog.length >= EXAMPLES;
        if (!isKnown && isWithoutItsLogAt(absolute(path))) measured.withoutLog.push(displayPath(path));
      }
    }
    if (performance.now() > end) return { ...measured, whole: false };
  }
  if (measured.databases > 0) measured.remote = REMOTE.includes((await statfs(root)).type);
  return measured;
}
