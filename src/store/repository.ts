import { randomUUID } from 'node:crypto';
import type { Destination } from '../destinations/destination.ts';
import { LifeboatError } from '../errors.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import {
  canonicalJson,
  decodeManifest,
  decodeRepositoryInfo,
  encodeManifest,
  encodeRepositoryInfo,
  FORMAT,
  type Manifest,
  manifestHash,
  type ObjectRef,
  type RepositoryInfo,
} from './manifest.ts';
import { fetchDocument, fetchFile, putFile, putObject, readDocument, streamOf } from './objects.ts';
import { parseSnapshotId } from './snapshot-id.ts';

const INFO_KEY = 'lifeboat.json';

/** A snapshot as its manifest describes it. */
export interface Snapshot {
  manifest: Manifest;
  /** hex SHA-256 of the manifest's bytes: `previous` of the one that follows it */
  hash: string;
}

/** All snapshots of a project, newest first, and the manifests that could not be read. */
export interface SnapshotList {
  snapshots: Snapshot[];
  damaged: { id: string; error: LifeboatError }[];
}

/** The snapshots of one Compose project at one destination. */
export interface Repository {
  readonly info: RepositoryInfo;
  readonly project: string;
  readonly destination: Destination;
  /** what objects are encrypted and read with */
  readonly keys: SealKeys;
  snapshots(): Promise<SnapshotList>;
  /** Finds `latest`, an id, or the only id that starts with `name`. Throws SNAPSHOT_UNKNOWN. */
  resolve(name: string): Promise<Snapshot>;
  /** Puts a source's facts. `record` hears the object's name before it is put. */
  putFacts(id: string, source: string, facts: unknown, record?: (key: string) => Promise<void>): Promise<ObjectRef>;
  readFacts(ref: ObjectRef): Promise<unknown>;
  /** Puts a plain index file, compressed, and encrypted where there is a key. */
  putIndex(id: string, source: string, path: string, record?: (key: string) => Promise<void>): Promise<ObjectRef>;
  /** Brings an index to a new local file, plain. The file is there only if it is what was stored. */
  fetchIndex(ref: ObjectRef, path: string, signal?: AbortSignal): Promise<void>;
  /** Finds each of the objects with its size. Throws OBJECT_MISSING or OBJECT_DAMAGED. */
  checkObjects(refs: readonly (ObjectRef | undefined)[]): Promise<void>;
  /**
   * Makes a snapshot: after every object it names was found, with its size, the manifest is put. Throws OBJECT_MISSING or
   * OBJECT_DAMAGED, and then there is no snapshot.
   */
  commit(manifest: Manifest): Promise<Snapshot>;
  /**
   * Removes what a failed run left: `keys` are those that its journal announced, of all its sources or of one. Keys that a
   * manifest names, manifests themselves and keys outside this project are refused, and returned.
   *
   * A manifest that cannot be read does not keep other runs from being cleared up: objects get names of their own, so only
   * the manifest of the run that stored them, or one that was built on it, can name them. When it is that run's own manifest
   * that cannot be read, all of the keys are refused: it had committed, and may be mended from a copy.
   */
  removeObjects(keys: readonly string[]): Promise<{ removed: string[]; refused: string[] }>;
}

/**
 * Opens the repository at a destination. With `create`, an empty destination becomes one.
 *
 * @throws DEST_FOREIGN for a destination that holds other things, or is empty and not to be made one;
 * FORMAT_UNSUPPORTED; OBJECT_DAMAGED
 */
export async function openRepository(
  destination: Destination,
  options: { project: string; create: boolean; keys: SealKeys },
): Promise<Repository> {
  const info = await readOrCreate(destination, options.create);
  return new StoredRepository(destination, options.project, options.keys, info);
}

async function readOrCreate(destination: Destination, create: boolean): Promise<RepositoryInfo> {
  const found = await readInfo(destination);
  if (found) return found;
  for await (const { key } of destination.list('')) {
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} holds other things, such as ${key}`, {
      hint: 'Give Lifeboat an empty directory or prefix of its own.',
    });
  }
  if (!create) {
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} is empty, not a Lifeboat repository`, {
      hint: 'Check that the right directory is mounted; the first backup makes a repository in it.',
    });
  }
  const info = { format: FORMAT, id: randomUUID(), created: new Date().toISOString() } as const;
  try {
    await destination.put(INFO_KEY, streamOf(encodeRepositoryInfo(info)));
    return info;
  } catch (error) {
    // Somebody else was quicker: theirs counts.
    const other =
      error instanceof LifeboatError && error.code === 'DEST_EXISTS' ? await readInfo(destination) : undefined;
    if (other) return other;
    throw error;
  }
}

async function readInfo(destination: Destination): Promise<RepositoryInfo | undefined> {
  try {
    return decodeRepositoryInfo(await readDocument(destination, INFO_KEY));
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'OBJECT_MISSING') return undefined;
    throw error;
  }
}

class StoredRepository implements Repository {
  readonly destination: Destination;
  readonly project: string;
  readonly info: RepositoryInfo;
  readonly keys: SealKeys;

  constructor(destination: Destination, project: string, keys: SealKeys, info: RepositoryInfo) {
    this.destination = destination;
    this.project = project;
    this.keys = keys;
    this.info = info;
  }

  async snapshots(): Promise<SnapshotList> {
    const list: SnapshotList = { snapshots: [], damaged: [] };
    for (const id of await this.ids()) {
      try {
        list.snapshots.push(await this.read(id));
      } catch (error) {
        // Removed by a prune meanwhile: it is not there any more, and that is no damage.
        if (!(error instanceof LifeboatError)) throw error;
        if (error.code !== 'OBJECT_MISSING') list.damaged.push({ id, error });
      }
    }
    return list;
  }

  async resolve(name: string): Promise<Snapshot> {
    const ids = await this.ids();
    const matching = name === 'latest' ? ids.slice(0, 1) : ids.filter((id) => id === name || id.startsWith(name));
    const exact = matching.length > 1 ? matching.find((id) => id === name) : matching[0];
    if (name !== '' && exact) return this.read(exact);
    const many = matching.length > 1;
    throw new LifeboatError(
      'SNAPSHOT_UNKNOWN',
      many ? `more than one snapshot starts with ${name}` : `no snapshot ${name}`,
      {
        hint: '`lifeboat snapshots` lists them; an id may be shortened as long as it is the only one.',
      },
    );
  }

  putFacts(id: string, source: string, facts: unknown, record?: (key: string) => Promise<void>): Promise<ObjectRef> {
    const body = streamOf(`${canonicalJson(facts)}\n`);
    return putObject(this.destination, `${this.directory(id)}${source}.facts.json`, body, this.sealing(record));
  }

  async readFacts(ref: ObjectRef): Promise<unknown> {
    return JSON.parse((await fetchDocument(this.destination, ref, { keys: this.keys })).toString('utf8'));
  }

  putIndex(id: string, source: string, path: string, record?: (key: string) => Promise<void>): Promise<ObjectRef> {
    return putFile(this.destination, `${this.directory(id)}${source}.index.ndjson`, path, this.sealing(record));
  }

  fetchIndex(ref: ObjectRef, path: string, signal?: AbortSignal): Promise<void> {
    return fetchFile(this.destination, ref, path, { keys: this.keys, signal });
  }

  async commit(manifest: Manifest): Promise<Snapshot> {
    const bytes = encodeManifest(manifest);
    await this.checkObjects(objectsOf(manifest));
    await this.destination.put(manifestKey(this.project, manifest.id), streamOf(bytes));
    return { manifest: decodeManifest(bytes), hash: manifestHash(bytes) };
  }

  async removeObjects(keys: readonly string[]): Promise<{ removed: string[]; refused: string[] }> {
    const { snapshots, damaged } = await this.snapshots();
    // A manifest that names anything names the index of its source, which lies beside it and was announced with the rest.
    const unreadable = damaged.map(({ id }) => this.directory(id));
    if (keys.some((key) => unreadable.some((directory) => key.startsWith(directory)))) {
      return { removed: [], refused: [...keys] };
    }
    const named = new Set(snapshots.flatMap(({ manifest }) => objectsOf(manifest).map(({ key }) => key)));
    const result = { removed: [] as string[], refused: [] as string[] };
    for (const key of keys) {
      const ours = key.startsWith(`${this.project}/`) && !key.endsWith('/manifest.json');
      if (!ours || named.has(key)) result.refused.push(key);
      else {
        await this.destination.delete(key);
        result.removed.push(key);
      }
    }
    return result;
  }

  /** Ids of all manifests, newest first. */
  private async ids(): Promise<string[]> {
    const prefix = `${this.project}/snapshots/`;
    const ids: string[] = [];
    for await (const { key } of this.destination.list(prefix)) {
      const [id = '', name] = key.slice(prefix.length).split('/');
      if (name === 'manifest.json' && parseSnapshotId(id)) ids.push(id);
    }
    return ids.sort().reverse();
  }

  private async read(id: string): Promise<Snapshot> {
    const bytes = await readDocument(this.destination, manifestKey(this.project, id));
    const manifest = decodeManifest(bytes);
    if (manifest.id !== id || manifest.project !== this.project) {
      throw new LifeboatError('OBJECT_DAMAGED', `the manifest of ${id} belongs to another snapshot`);
    }
    return { manifest, hash: manifestHash(bytes) };
  }

  async checkObjects(refs: readonly (ObjectRef | undefined)[]): Promise<void> {
    const missing = new Map(refs.flatMap((ref) => (ref ? [[ref.key, ref]] : [])));
    for await (const { key, size } of this.destination.list(`${this.project}/`)) {
      const ref = missing.get(key);
      if (!ref) continue;
      missing.delete(key);
      if (size !== ref.size)
        throw new LifeboatError('OBJECT_DAMAGED', `${key} has ${size} bytes instead of ${ref.size}`);
    }
    for (const key of missing.keys()) throw new LifeboatError('OBJECT_MISSING', `${key} is not there`);
  }

  private sealing(record?: (key: string) => Promise<void>) {
    return { compress: true, keys: this.keys, ...(record ? { record } : {}) };
  }

  private directory(id: string): string {
    return `${this.project}/snapshots/${id}/`;
  }
}

/** Where the manifest of a snapshot is. */
export function manifestKey(project: string, id: string): string {
  return `${project}/snapshots/${id}/manifest.json`;
}

/** Every object that a manifest names. */
export function objectsOf(manifest: Manifest): ObjectRef[] {
  return Object.values(manifest.sources).flatMap(({ index, facts, packs }) => [
    ...(index ? [index] : []),
    ...(facts ? [facts] : []),
    ...packs,
  ]);
}
