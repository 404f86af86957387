import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { zstdDecompressSync } from 'node:zlib';
import { decodeManifest, documentsOf, type Manifest, type ObjectRef } from '../../src/store/objects/manifest.ts';
import type { PackRef } from '../../src/store/packs/pack-stream.ts';
import { listsOf } from '../../src/store/repository/pack-lists.ts';

/** Inspects a repository on the host's disk, as far as possible without the code that wrote it. */
export interface RepositoryView {
  /** oldest first */
  manifests: Manifest[];
  /** incomplete objects that a manifest names: `missing …`, `size …`, `hash …` */
  bad: string[];
  /** leftovers: files that no manifest names */
  orphans: string[];
}

/** Checks the repository of one project. `verified` records objects with a correct hash, by name and time. */
export async function viewRepository(root: string, verified = new Set<string>()): Promise<RepositoryView> {
  const files = new Set(await filesBelow(root));
  const isManifest = (key: string) => /\/snapshots\/[^/]+\/manifest\.json$/.test(key);
  const manifests: Manifest[] = [];
  for (const key of [...files].filter(isManifest).sort())
    manifests.push(decodeManifest(await readFile(path.join(root, key))));
  const bad: string[] = [];
  const named = new Set<string>();
  const packs: ObjectRef[] = [];
  for (const list of listsOf(manifests)) if (files.has(list.key)) packs.push(...(await packsIn(root, list)));
  for (const { key, size, sha256 } of [...manifests.flatMap(documentsOf), ...packs]) {
    if (named.has(key)) continue;
    named.add(key);
    const problem = files.has(key) ? await compare(path.join(root, key), size, sha256, verified) : 'missing';
    if (problem) bad.push(`${problem} ${key}`);
  }
  // The newest lease always stays.
  const others = (key: string) => key === 'lifeboat.json' || /^[^/]+\/leases\/\d{10}\.json$/.test(key);
  const orphans = [...files].filter((key) => !named.has(key) && !isManifest(key) && !others(key));
  return { manifests, bad, orphans };
}

/** Reads a list of packs of a repository on disk. */
export async function packsIn(root: string, { key }: { key: string }): Promise<PackRef[]> {
  const lines = zstdDecompressSync(await readFile(path.join(root, key)))
    .toString()
    .trim()
    .split('\n');
  return lines.map((line) => JSON.parse(line) as PackRef);
}

async function compare(file: string, size: number, sha256: string, verified: Set<string>): Promise<string | undefined> {
  const found = await stat(file);
  if (found.size !== size) return 'size';
  const token = `${file} ${found.mtimeMs} ${found.ino}`;
  if (verified.has(token)) return undefined;
  if ((await hashOf(file)) !== sha256) return 'hash';
  verified.add(token);
  return undefined;
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

/** Returns the relative paths of all files below a directory, including unfinished ones. */
export async function filesBelow(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
    .sort();
}
