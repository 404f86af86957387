import { hash } from 'node:crypto';
import { hashHere } from '../../destinations/hash-here.ts';
import { Directory } from '../filesystem/directory.ts';
import type { FileStat } from '../filesystem/file-stat.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { OpenDirectories } from '../filesystem/open-directories.ts';
import { comparePaths, shortPath, split, type TreePath } from '../filesystem/path.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import { type WalkItem, walk } from '../filesystem/walk.ts';
import { HashTable } from '../known/hash-table.ts';

interface VerifyOptions {
  /** absolute path of the tree; nothing else writes to it */
  root: string;
  /** index of a snapshot: checked, and in order */
  index: AsyncIterable<IndexLine>;
  signal?: AbortSignal;
  progress?(progress: { done: number; files: number }): void;
}

/** The differences, in words: the number of names, and the first of them. */
export interface Differences {
  count: number;
  first: string[];
}

/** A restored tree compared with its index. */
export interface VerifiedTree {
  /** names that are missing, and names that the index lacks */
  names: Differences;
  /** names with another type, owner, mode, size, time or target */
  properties: Differences;
  /** files whose content has another SHA-256 */
  contents: Differences;
  /** number of files whose content was read; a file with several names counts once */
  read: number;
  /** false if the file system let some content be read only through the page cache */
  direct: boolean;
}

/** The most differences of a kind that are named. */
const NAMED = 20;

/**
 * Compares a restored tree with the index that it was restored from: names, types, owners, modes, sizes, times and
 * targets of everything, directories included. Reads the content of each file back from the disk and hashes it. Both
 * are read as sorted streams, so memory grows only with the number of files that have several names.
 *
 * @throws TREE_UNREADABLE; the system error of a file that cannot be read
 */
export async function verifyTree(options: VerifyOptions): Promise<VerifiedTree> {
  const root = Directory.open(options.root);
  const open = new OpenDirectories(root);
  const verification = new Verification(options, open);
  try {
    const live = walk(root, { ...(options.signal ? { signal: options.signal } : {}) });
    let present = await live.next();
    for await (const entry of options.index) {
      if (entry.type === 'part') continue;
      while (!present.done && comparePaths(present.value.path, entry.path) < 0) {
        verification.extra(present.value.path);
        present = await live.next();
      }
      if (!present.done && present.value.path === entry.path) {
        await verification.both(entry, present.value);
        present = await live.next();
      } else verification.missing(entry);
    }
    for (; !present.done; present = await live.next()) verification.extra(present.value.path);
    return verification.result;
  } finally {
    open.close();
    root.close();
  }
}

/** Types that a restore creates. A snapshot has no content of others. */
const RESTORED: readonly IndexEntry['type'][] = ['file', 'hardlink', 'symlink', 'directory'];

class Verification {
  readonly result: VerifiedTree = { names: none(), properties: none(), contents: none(), read: 0, direct: true };
  private readonly options: VerifyOptions;
  private readonly open: OpenDirectories;
  /** inode of each file with several names, by its first name */
  private readonly linked = new HashTable();
  private done = 0;

  constructor(options: VerifyOptions, open: OpenDirectories) {
    this.options = options;
    this.open = open;
  }

  extra(path: TreePath): void {
    add(this.result.names, `${shortPath(path)} is not in the record`);
  }

  missing({ path, type }: IndexEntry): void {
    if (RESTORED.includes(type)) add(this.result.names, `${shortPath(path)} is missing`);
  }

  async both(entry: IndexEntry, { stat, target, error }: WalkItem): Promise<void> {
    if (!RESTORED.includes(entry.type)) return this.extra(entry.path);
    if (!stat) throw error;
    const differences = this.propertiesOf(entry, stat, target);
    if (differences.length > 0) add(this.result.properties, `${shortPath(entry.path)}: ${differences.join(', ')}`);
    if (entry.type === 'file' && stat.type === 'file') await this.content(entry, stat);
  }

  private propertiesOf(entry: IndexEntry, stat: FileStat, target: TreePath | undefined): string[] {
    const { type, uid, gid, mode, mtime } = entry;
    const wanted = type === 'hardlink' ? 'file' : type;
    if (stat.type !== wanted) return [`a ${stat.type}, recorded a ${wanted}`];
    const differences: string[] = [];
    const same = (what: string, found: unknown, recorded: unknown) => {
      if (found !== recorded) differences.push(`${what} ${found}, recorded ${recorded}`);
    };
    same('owner', `${stat.uid}:${stat.gid}`, `${uid}:${gid}`);
    same('time', timeText(stat.mtime), timeText(mtime));
    if (type === 'symlink') same('target', shortPath(target ?? ''), shortPath(entry.target ?? ''));
    else same('mode', stat.mode.toString(8), mode.toString(8));
    if (wanted === 'file') same('size', stat.size, entry.size);
    if (type === 'file' && stat.nlink > 1) this.linked.set(keyOf(entry.path), numberOf(stat.ino));
    if (type === 'hardlink' && this.linked.get(keyOf(entry.target ?? '')) !== numberOf(stat.ino))
      differences.push(`not the same file as ${shortPath(entry.target ?? '')}`);
    return differences;
  }

  private async content({ path, sha256 }: IndexEntry, { size }: FileStat): Promise<void> {
    const alive = () => this.options.progress?.({ done: this.done, files: this.result.read });
    const { parent, name } = split(path);
    const found = await this.open.need(parent, (directory) => hashHere(directory.at(name), alive));
    this.result.read++;
    this.done += size;
    if (!found.direct) this.result.direct = false;
    if (found.sha256 !== sha256) add(this.result.contents, `${shortPath(path)}: the content is not the recorded one`);
    alive();
  }
}

const keyOf = (path: TreePath) => hash('sha256', path);
/** The lowest 52 bits of an inode, which an exact number holds: two names of different files differ in them. */
const numberOf = (inode: bigint) => Number(BigInt.asUintN(52, inode));

function none(): Differences {
  return { count: 0, first: [] };
}

function add(differences: Differences, what: string): void {
  differences.count++;
  if (differences.first.length < NAMED) differences.first.push(what);
}

/** Returns a time as seconds since 1970 with all nine digits of its fraction. */
function timeText(nanoseconds: bigint): string {
  const seconds = nanoseconds / 1_000_000_000n;
  const rest = nanoseconds - seconds * 1_000_000_000n;
  const [whole, fraction] = rest < 0n ? [seconds - 1n, rest + 1_000_000_000n] : [seconds, rest];
  return `${whole}.${String(fraction).padStart(9, '0')}`;
}
