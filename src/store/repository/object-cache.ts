import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ObjectInfo } from '../../destinations/destination.ts';
import type { ObjectRef } from '../objects/manifest.ts';
import { isStored } from '../objects/pack-list.ts';

/** Lists of packs are cached up to this total size, bytes as stored. */
const MAX_LISTS = 256 * 1024 * 1024;
/** A list that was not read for this time is removed when there is no room, milliseconds. */
const UNUSED_MS = 7 * 24 * 60 * 60 * 1000;
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * Small objects of a repository on the agent's own disk, so that no listing or prune reads them twice. A cache that
 * cannot be read or written only costs time, so its functions never reject.
 */
export interface ObjectCache {
  /** Returns the bytes of a manifest if the listed object is the one that was cached. */
  manifest(id: string, listed: ObjectInfo): Promise<Buffer | undefined>;
  /** Caches the bytes of a listed manifest. A destination that lists no versions has no cache. */
  saveManifest(id: string, listed: ObjectInfo, bytes: Buffer): Promise<void>;
  /** Removes the manifests of all other snapshots. */
  keepManifests(ids: readonly string[]): Promise<void>;
  /** Returns the stored bytes of a list of packs. */
  list(ref: ObjectRef): Promise<Buffer | undefined>;
  saveList(ref: ObjectRef, stored: Buffer): Promise<void>;
}

/** The cache of an agent that keeps nothing between runs. */
export const NO_CACHE: ObjectCache = {
  manifest: async () => undefined,
  saveManifest: async () => undefined,
  keepManifests: async () => undefined,
  list: async () => undefined,
  saveList: async () => undefined,
};

/**
 * Opens the cache in a directory, which need not exist.
 *
 * @param place distinguishes the manifests of different destinations and projects. Lists are found by their hash alone
 */
export function openObjectCache(directory: string, place: string): ObjectCache {
  const manifests = path.join(directory, 'manifests', sha256(Buffer.from(place)).slice(0, 16));
  const lists = path.join(directory, 'packs');
  const manifestFile = (id: string) => path.join(manifests, `${id}.json`);
  const listFile = (ref: ObjectRef) => path.join(lists, `${ref.sha256}.zst`);
  return {
    manifest: (id, listed) =>
      quietly(async () => {
        const file = await readFile(manifestFile(id));
        const end = file.indexOf(0x0a);
        const bytes = file.subarray(end + 1);
        const head = file.toString('utf8', 0, end);
        return listed.version !== undefined && head === headOf(listed, bytes) ? bytes : undefined;
      }),
    saveManifest: (id, listed, bytes) =>
      quietly(async () => {
        if (listed.version === undefined || listed.size !== bytes.length) return;
        await replaceFile(manifestFile(id), Buffer.concat([Buffer.from(`${headOf(listed, bytes)}\n`), bytes]));
      }),
    keepManifests: (ids) =>
      quietly(async () => {
        const kept = new Set(ids.map((id) => `${id}.json`));
        for (const name of await readdir(manifests)) if (!kept.has(name)) await rm(path.join(manifests, name));
      }),
    list: (ref) =>
      quietly(async () => {
        const file = listFile(ref);
        const stored = await readFile(file);
        if (!isStored(ref, stored)) return undefined;
        const now = Date.now();
        if (now - (await stat(file)).mtimeMs > DAY_MS) await utimes(file, now / 1000, now / 1000);
        return stored;
      }),
    saveList: (ref, stored) =>
      quietly(async () => {
        if (await hasRoom(lists, stored.length)) await replaceFile(listFile(ref), stored);
      }),
  };
}

function headOf({ key, size, version }: ObjectInfo, bytes: Buffer): string {
  return JSON.stringify({ key, size, version, sha256: sha256(bytes) });
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function quietly<T>(work: () => Promise<T | undefined>): Promise<T | undefined> {
  try {
    return await work();
  } catch {
    return undefined;
  }
}

/** Writes a file that appears whole, because other processes read the cache too. */
async function replaceFile(file: string, bytes: Buffer): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    await writeFile(temporary, bytes, { mode: 0o600 });
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Returns whether there is room for a list. Removes lists that were not read for long if there is not. */
async function hasRoom(directory: string, size: number): Promise<boolean> {
  const names = await readdir(directory).catch(() => []);
  const files = await Promise.all(
    names.map(async (name) => ({ name, ...sizeAndTime(await stat(path.join(directory, name))) })),
  );
  let left = MAX_LISTS - size - files.reduce((sum, file) => sum + file.size, 0);
  if (left >= 0) return true;
  for (const file of files) {
    if (Date.now() - file.mtimeMs < UNUSED_MS) continue;
    await rm(path.join(directory, file.name), { force: true });
    left += file.size;
  }
  return left >= 0;
}

function sizeAndTime({ size, mtimeMs }: { size: number; mtimeMs: number }) {
  return { size, mtimeMs };
}
