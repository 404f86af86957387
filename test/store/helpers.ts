import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Destination } from '../../src/destinations/destination.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';
import { extractTree } from '../../src/store/content/extract-tree.ts';
import type { ExtractedTree, ExtractTreeOptions } from '../../src/store/content/extracted-tree.ts';
import { storeTree } from '../../src/store/content/store-tree.ts';
import type { StoredTree, StoreTreeOptions } from '../../src/store/content/stored-tree.ts';
import type { IndexEntry } from '../../src/store/filesystem/index-file.ts';
import { readIndexFile, readIndexFileLines } from '../../src/store/filesystem/read-index.ts';
import type { LeaseSightings } from '../../src/store/repository/lease-seen.ts';

/** In memory if possible: syncing a busy disk is slow, and not under test. */
export const scratchBase = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Returns the path below `root` as bytes, from one character per byte. */
export const at = (root: string, path: string) => Buffer.from(path === '' ? root : `${root}/${path}`, 'latin1');

/** A directory to back up, a repository, and functions for storing and extracting. */
export interface Bench {
  tree: string;
  spool: string;
  destination: Destination;
  /** object names in the order in which they were recorded */
  recorded: string[];
  index: string;
  store(options?: Partial<StoreTreeOptions>): Promise<StoredTree>;
  /** Stores after a pause: the next run reads files again if they are younger than a tick of the clock. */
  storeAfterTick(options?: Partial<StoreTreeOptions>): Promise<StoredTree>;
  extract(
    stored: Pick<StoredTree, 'packs'>,
    options?: Partial<ExtractTreeOptions> & { target?: string },
  ): Promise<{ target: string; result: ExtractedTree }>;
  entries(): Promise<IndexEntry[]>;
  remove(): void;
}

export function createBench(smallFile = 1024 * 1024): Bench {
  const base = mkdtempSync(join(scratchBase, 'lifeboat-store-'));
  for (const name of ['tree', 'repo', 'spool']) mkdirSync(join(base, name));
  const bench: Bench = {
    tree: join(base, 'tree'),
    spool: join(base, 'spool'),
    destination: createLocalDestination({ root: join(base, 'repo') }),
    recorded: [],
    index: join(base, 'index'),
    async store(options = {}) {
      return storeTree({
        root: bench.tree,
        project: 'shop',
        source: 'web.media',
        destination: bench.destination,
        keys: {},
        indexPath: bench.index,
        smallFile,
        recordObject: async (key) => {
          bench.recorded.push(key);
        },
        ...options,
      });
    },
    async storeAfterTick(options) {
      await new Promise((resolve) => setTimeout(resolve, 25));
      return bench.store(options);
    },
    async extract(stored, options = {}) {
      const target = options.target ?? join(mkdtempSync(join(base, 'out-')), 'restored');
      const result = await extractTree({
        index: readIndexFileLines(bench.index),
        packs: stored.packs,
        destination: bench.destination,
        keys: {},
        target,
        spool: bench.spool,
        owner: true,
        ...options,
      });
      return { target, result };
    },
    async entries() {
      const entries: IndexEntry[] = [];
      for await (const entry of readIndexFile(bench.index)) entries.push(entry);
      return entries;
    },
    remove: () => rmSync(base, { recursive: true, force: true }),
  };
  return bench;
}

/** Returns everything that a restore must bring back, by path. Names of one file share `link`. */
export function describeTree(root: string): Map<string, Record<string, unknown>> {
  const result = new Map<string, Record<string, unknown>>();
  const firstNames = new Map<bigint, string>();
  const visit = (path: string) => {
    const full = at(root, path);
    const stat = lstatSync(full, { bigint: true });
    const facts: Record<string, unknown> = {
      mode: (stat.mode & 0o7777n).toString(8),
      owner: `${stat.uid}:${stat.gid}`,
      mtime: stat.mtimeNs,
    };
    result.set(path, facts);
    if (stat.isDirectory()) {
      for (const name of readdirSync(full, { encoding: 'latin1' }).sort())
        visit(path === '' ? name : `${path}/${name}`);
    } else if (stat.isSymbolicLink()) facts.target = readlinkSync(full, { encoding: 'latin1' });
    else if (stat.isFile()) {
      facts.size = stat.size;
      facts.sha256 = createHash('sha256').update(readFileSync(full)).digest('hex');
      if (stat.nlink > 1n) {
        if (!firstNames.has(stat.ino)) firstNames.set(stat.ino, path);
        facts.link = firstNames.get(stat.ino);
      }
    } else facts.special = true;
  };
  visit('');
  return result;
}

/** The memory of an agent that has seen no lease. */
export const noSightings: LeaseSightings = {
  leaseSighting: async () => undefined,
  saveLeaseSighting: async () => undefined,
};
