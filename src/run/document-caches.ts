import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, statfs, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isStored } from '../store/objects/pack-list.ts';
import { parseSnapshotId } from '../store/objects/snapshot-id.ts';
import type { ManifestCache, PackListCache } from '../store/repository/repository.ts';
import { readJson, writeJson } from './state-files.ts';

/** Caches in the spool of documents that a destination has, which save downloads. */

/** Lists are cached up to this total size, bytes as stored, */
const MAX_BYTES = 256 * 1024 * 1024;
/** or to this share of the free space, if that is more: each run needs all lists, and would fetch the others again. */
const SHARE_OF_FREE = 0.02;
/** If there is no room, lists that were not read for this time are removed, milliseconds. */
const UNUSED_MS = 7 * 24 * 60 * 60 * 1000;
/** If there is no room, a cache looks for some at most this often, milliseconds. A prune may write a thousand lists. */
const LOOK_MS = 60 * 60 * 1000;
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * Opens a cache of manifests in a directory, one file for each. The version of an object comes from the destination and
 * changes whenever the object is written again, so a manifest that somebody replaced is fetched and checked.
 *
 * @param directory created when it is needed; used for one project at one destination only
 */
export function openManifestCache(directory: string): ManifestCache {
  const fileOf = (id: string) => path.join(directory, `${id}.json`);
  return {
    async read(id, version) {
      try {
        const content = await readFile(fileOf(id));
        const head = headOf(version, content.subarray(content.indexOf('\n') + 1));
        return content.subarray(0, head.length).equals(head) ? content.subarray(head.length) : undefined;
      } catch {
        return undefined;
      }
    },
    async write(id, version, bytes) {
      try {
        await mkdir(directory, { recursive: true, mode: 0o700 });
        const temporary = `${fileOf(id)}.${process.pid}.new`;
        await writeFile(temporary, Buffer.concat([headOf(version, bytes), bytes]), { mode: 0o600 });
        await rename(temporary, fileOf(id));
      } catch {
        // A full spool only costs requests.
      }
    },
    async keepOnly(ids) {
      const wanted = new Set(ids);
      for (const name of await readdir(directory).catch(() => [])) {
        const id = name.split('.')[0] as string;
        if (!parseSnapshotId(id) || wanted.has(id)) continue;
        await rm(path.join(directory, name), { force: true }).catch(() => undefined);
      }
    },
  };
}

/** The first line of a cached file: the version of the object, and the hash of the bytes that follow. */
function headOf(version: string, bytes: Buffer): Buffer {
  return Buffer.from(`${JSON.stringify(version)} ${createHash('sha256').update(bytes).digest('hex')}\n`);
}

/**
 * Opens a cache of lists of packs in a directory, one file for each. A prune and the update of a copy need the lists of
 * all snapshots, and each list stays the same forever.
 *
 * @param directory created when it is needed
 */
export function openPackListCache(directory: string, maxBytes?: number): PackListCache {
  const fileOf = (sha256: string) => path.join(directory, `${sha256}.zst`);
  let left: number | undefined;
  let looked = 0;
  return {
    async read(ref) {
      try {
        const file = fileOf(ref.sha256);
        const stored = await readFile(file);
        if (!isStored(ref, stored)) return undefined;
        const now = Date.now();
        if (now - (await stat(file)).mtimeMs > DAY_MS) await utimes(file, now / 1000, now / 1000);
        return stored;
      } catch {
        return undefined;
      }
    },
    async write({ sha256 }, stored) {
      try {
        if (left === undefined || (left < stored.length && Date.now() - looked >= LOOK_MS)) {
          looked = Date.now();
          left = await makeRoom(directory, maxBytes ?? (await mostBytes(directory)), stored.length);
        }
        if (left < stored.length) return;
        left -= stored.length;
        await mkdir(directory, { recursive: true, mode: 0o700 });
        const temporary = `${fileOf(sha256)}.${process.pid}.new`;
        await writeFile(temporary, stored, { mode: 0o600 });
        await rename(temporary, fileOf(sha256));
      } catch {
        // A full spool only costs requests.
      }
    },
  };
}

/** Returns how many bytes the cache may take. */
async function mostBytes(directory: string): Promise<number> {
  const free = await statfs(path.dirname(directory)).catch(() => undefined);
  return Math.max(MAX_BYTES, free ? free.bavail * free.bsize * SHARE_OF_FREE : 0);
}

/**
 * Returns how many bytes the cache may still take. If there is less than `wanted`, removes lists that were not read for
 * long.
 */
async function makeRoom(directory: string, maxBytes: number, wanted: number): Promise<number> {
  const files: { file: string; size: number; mtimeMs: number }[] = [];
  for (const name of await readdir(directory).catch(() => [])) {
    const file = path.join(directory, name);
    const { size, mtimeMs } = await stat(file);
    files.push({ file, size, mtimeMs });
  }
  let left = maxBytes - files.reduce((sum, { size }) => sum + size, 0);
  for (const { file, size, mtimeMs } of files) {
    if (left >= wanted) break;
    if (Date.now() - mtimeMs < UNUSED_MS) continue;
    await rm(file, { force: true });
    left += size;
  }
  return left;
}

/** Which documents of sources the kept snapshots name. */
export interface NamedDocuments {
  /** names of sources */
  sources: ReadonlySet<string>;
  /** SHA-256 of stored indexes */
  indexes: ReadonlySet<string>;
}

/** The last index and the last facts of each source. */
export interface SourceCaches {
  /**
   * The cached index of a source as a plain file, if the cache is of the index object with that hash. A file that a
   * disk has damaged is not cached: each is read once between two calls of `keepCached`.
   */
  cachedIndex(source: string, sha256: string): Promise<string | undefined>;
  /** Moves the plain index at `file` (on the same file system) into the cache of a source. */
  cacheIndex(source: string, sha256: string, file: string): Promise<void>;
  /** The cached facts of a source, if they are those of the object with that hash. */
  cachedFacts(source: string, sha256: string): Promise<unknown>;
  cacheFacts(source: string, sha256: string, facts: unknown): Promise<void>;
  /**
   * Begins a run: each cached index is checked again, and what no kept snapshot names is removed. `named`: undefined if
   * that is not known. Never rejects
   */
  keepCached(named: NamedDocuments | undefined): Promise<void>;
}

/** Opens the caches of the documents of sources, below the directory of the state. */
export function openSourceCaches(directory: string): SourceCaches {
  const indexes = path.join(directory, 'index');
  const factsOf = path.join(directory, 'facts');
  const factsFile = (source: string) => path.join(factsOf, `${source}.json`);
  /** whether the files, by their names, are as they were written */
  const checked = new Map<string, Promise<boolean>>();
  const namesIn = (place: string) => readdir(place).catch((): string[] => []);
  const isWhole = (name: string, sum: string | undefined): Promise<boolean> => {
    const known = checked.get(name) ?? sumOf(path.join(indexes, name)).then((found) => found === (sum ?? found), no);
    checked.set(name, known);
    return known;
  };
  return {
    async cachedFacts(source, sha256) {
      const cached = await readJson<{ sha256: string; facts: unknown }>(factsFile(source));
      return cached?.sha256 === sha256 ? cached.facts : undefined;
    },
    cacheFacts: (source, sha256, facts) => writeJson(factsFile(source), { sha256, facts }),
    async cachedIndex(source, sha256) {
      for (const name of await namesIn(indexes)) {
        const found = partsOf(name);
        if (found?.source !== source || found.sha256 !== sha256) continue;
        const file = path.join(indexes, name);
        if (await isWhole(name, found.sum)) return file;
        await rm(file, { force: true }).catch(() => undefined);
      }
      return undefined;
    },
    async cacheIndex(source, sha256, from) {
      const target = `${source}@${sha256}@${await sumOf(from)}.ndjson`;
      await mkdir(indexes, { recursive: true, mode: 0o700 });
      const others = (await namesIn(indexes)).filter((name) => partsOf(name)?.source === source && name !== target);
      await rename(from, path.join(indexes, target));
      checked.set(target, Promise.resolve(true));
      for (const name of others) await rm(path.join(indexes, name), { force: true });
    },
    async keepCached(named) {
      checked.clear();
      if (!named) return;
      const oldIndexes = (await namesIn(indexes)).filter((name) => !named.indexes.has(partsOf(name)?.sha256 ?? ''));
      const oldFacts = (await namesIn(factsOf)).filter((name) => !named.sources.has(path.basename(name, '.json')));
      const old = [
        ...oldIndexes.map((name) => path.join(indexes, name)),
        ...oldFacts.map((name) => path.join(factsOf, name)),
      ];
      for (const file of old) await rm(file, { force: true }).catch(() => undefined);
    },
  };
}

const no = () => false;

/**
 * The parts of a cached index's name: its source, the hash of the stored index, and the checksum of the plain file,
 * which files of older versions lack. A source's name never contains `@`.
 */
function partsOf(name: string): { source: string; sha256: string; sum: string | undefined } | undefined {
  const match = /^([^@]+)@([^@.]+)(?:@([^@.]+))?\.ndjson$/.exec(name);
  return match ? { source: match[1] as string, sha256: match[2] as string, sum: match[3] } : undefined;
}

/** Returns a short checksum of a file: names of files are limited. */
async function sumOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 256 * 1024 })) hash.update(chunk as Buffer);
  return hash.digest('hex').slice(0, 16);
}
