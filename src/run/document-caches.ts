import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, statfs, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isStored } from '../store/objects/pack-list.ts';
import { parseSnapshotId } from '../store/objects/snapshot-id.ts';
import type { ManifestCache, PackListCache } from '../store/repository/repository.ts';

/** Caches in the spool of documents that a destination has. */

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
