import { hasCode, LifeboatError } from '../../base/errors.ts';
import type { Destination, ObjectInfo } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { checkDocumentSize, checkPresence, putDocument } from '../objects/documents.ts';
import {
  decodeManifest,
  encodeManifest,
  type Manifest,
  manifestHash,
  manifestKey,
  type ObjectRef,
  type PackListRef,
  type RepositoryInfo,
} from '../objects/manifest.ts';
import { deleteUnlessKept, fetchDocument, fetchFile, putFile, readDocument } from '../objects/objects.ts';
import { encodePackList, fetchStoredList, putPackList, unpackList } from '../objects/pack-list.ts';
import { parseSnapshotId } from '../objects/snapshot-id.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { putManifest } from './commit.ts';
import { NO_CACHE, type ObjectCache, openObjectCache } from './object-cache.ts';
import { namedKeys, objectsOf } from './pack-lists.ts';
import type { CommitOptions, Repository, Snapshot, SnapshotList } from './repository.ts';
import { type RepositoryOptions, readOrCreateInfo } from './repository-info.ts';
import { addLost, changedSince, type SeenChain } from './seen-chain.ts';
import { Signing, unsigned } from './signing.ts';
import { isAboutManifest, newestFirst, withoutIntruders } from './snapshot-list.ts';

/**
 * Opens the repository at a destination.
 *
 * @throws DEST_FOREIGN if the destination holds other things or another repository than expected, or is empty and
 * `create` is not set; FORMAT_UNSUPPORTED; OBJECT_DAMAGED
 */
export async function openRepository(destination: Destination, options: RepositoryOptions): Promise<Repository> {
  const { project, keys, signingKeys, seen = async () => undefined } = options;
  const info = await readOrCreateInfo(destination, options);
  const cache = options.cache ? openObjectCache(options.cache, `${destination.name}\n${project}`) : NO_CACHE;
  const signing = new Signing(info.id, signingKeys);
  return new StoredRepository(destination, project, info, { keys, signing, seen, cache });
}

interface Inner {
  keys: SealKeys;
  signing: Signing;
  /** reads which snapshots the agent has seen here */
  seen(): Promise<SeenChain | undefined>;
  cache: ObjectCache;
}

class StoredRepository implements Repository {
  readonly destination: Destination;
  readonly project: string;
  readonly info: RepositoryInfo;
  readonly keys: SealKeys;
  readonly signing: Signing;
  private readonly seen: Inner['seen'];
  private readonly cache: ObjectCache;

  constructor(destination: Destination, project: string, info: RepositoryInfo, { keys, signing, seen, cache }: Inner) {
    this.destination = destination;
    this.project = project;
    this.keys = keys;
    this.info = info;
    this.signing = signing;
    this.seen = seen;
    this.cache = cache;
  }

  through(destination: Destination): Repository {
    const { project, info, keys, signing, seen, cache } = this;
    return new StoredRepository(destination, project, info, { keys, signing, seen, cache });
  }

  async snapshots(signal?: AbortSignal, { fresh = false } = {}): Promise<SnapshotList> {
    const list: SnapshotList = { snapshots: [], damaged: [] };
    // Read this before the listing, because a run may commit in the meantime.
    const seen = await this.seen();
    const listed = await this.listed();
    for (const { id, object } of listed) {
      signal?.throwIfAborted();
      try {
        const cached = fresh ? undefined : await this.cache.manifest(id, object);
        const bytes = cached ?? (await this.readManifest(id, signal));
        list.snapshots.push(this.decode(id, bytes, seen));
        if (!cached) await this.cache.saveManifest(id, object, bytes);
      } catch (error) {
        signal?.throwIfAborted();
        if (isAboutManifest(error)) list.damaged.push({ id, error });
        // A prune has removed it since the listing. That is not damage.
        else if (!hasCode(error, 'OBJECT_MISSING')) throw error;
      }
    }
    await this.cache.keepManifests(listed.map(({ id }) => id));
    list.snapshots.sort(newestFirst);
    return addLost(this, withoutIntruders(list), seen ?? []);
  }

  async resolve(name: string): Promise<Snapshot> {
    const ids = (await this.listed()).map(({ id }) => id);
    const matching = ids.filter((id) => id === name || id.startsWith(name));
    const exact = matching.length > 1 ? matching.find((id) => id === name) : matching[0];
    if (name !== '' && exact) return this.decode(exact, await this.readManifest(exact), await this.seen());
    const many = matching.length > 1;
    throw new LifeboatError(
      'SNAPSHOT_UNKNOWN',
      many ? `more than one snapshot starts with ${name}` : `no snapshot ${name}`,
      { hint: '`lifeboat snapshots` lists them. You can shorten an id as long as it stays unique.' },
    );
  }

  putFacts(id: string, source: string, facts: unknown, record?: (key: string) => Promise<void>): Promise<ObjectRef> {
    const key = `${this.directory(id)}${source}.facts.json`;
    return putDocument(
      this.destination,
      key,
      { what: `the recorded facts of ${source}`, value: facts },
      this.sealing(record),
    );
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

  async readPackList(ref: PackListRef, signal?: AbortSignal): Promise<Buffer> {
    const cached = await this.cache.list(ref);
    const stored = cached ?? (await fetchStoredList(this.destination, ref, signal));
    const lines = await unpackList(ref, stored);
    if (!cached) await this.cache.saveList(ref, stored);
    return lines;
  }

  async putPacks(
    { id, source, packs }: { id: string; source: string; packs: readonly PackRef[] },
    { last, record }: { last?: PackListRef | undefined; record?: (key: string) => Promise<void> } = {},
  ): Promise<PackListRef | undefined> {
    if (packs.length === 0) return undefined;
    const lines = encodePackList(packs);
    if (last?.count === packs.length) {
      const before = await this.readPackList(last).catch(() => undefined);
      if (before?.equals(lines)) return last;
    }
    const name = `${this.directory(id)}${source}`;
    // A run uses no packs that other keys encrypted.
    const keyId = packs.find((pack) => pack.keyId !== undefined)?.keyId;
    const list = { lines, count: packs.length, ...(keyId === undefined ? {} : { keyId }) };
    const { ref, stored } = await putPackList(this.destination, name, list, record);
    await this.cache.saveList(ref, stored);
    return ref;
  }

  async commit(manifest: Manifest, options: CommitOptions = {}): Promise<Snapshot> {
    // Sign the manifest as it will be read, without fields that encoding drops.
    const plain = decodeManifest(encodeManifest(manifest));
    const bytes = encodeManifest(this.signing.sign('manifest', plain));
    checkDocumentSize(`the manifest of ${manifest.id}`, bytes.length);
    const check = async () => this.checkObjects(await objectsOf(this, plain));
    await check();
    const snapshot = { manifest: decodeManifest(bytes), hash: manifestHash(bytes) };
    await putManifest({ repository: this, snapshot, bytes, check }, options);
    return snapshot;
  }

  async removeObjects(keys: readonly string[]): Promise<{ removed: string[]; refused: string[] }> {
    const { snapshots, damaged } = await this.snapshots();
    // A manifest that names any object also names an index, which is in its own directory and was announced with the
    // rest.
    const unreadable = damaged.map(({ id }) => this.directory(id));
    if (keys.some((key) => unreadable.some((directory) => key.startsWith(directory)))) {
      return { removed: [], refused: [...keys] };
    }
    const result = { removed: [] as string[], refused: [] as string[] };
    if (keys.length === 0) return result;
    const named = await namedKeys(this, snapshots);
    // A list that cannot be read may name any pack.
    const isNamed = (key: string) => named.keys.has(key) || (named.unread.length > 0 && key.startsWith(packs));
    const packs = `${this.project}/packs/`;
    let kept = false;
    for (const key of keys) {
      const own = key.startsWith(`${this.project}/`) && !key.endsWith('/manifest.json');
      if (own && !isNamed(key) && !kept) kept = !(await deleteUnlessKept(this.destination, key));
      if (!own || isNamed(key) || kept) result.refused.push(key);
      else result.removed.push(key);
    }
    return result;
  }

  /** Lists all manifests, the latest dates first. */
  private async listed(): Promise<{ id: string; object: ObjectInfo }[]> {
    const prefix = `${this.project}/snapshots/`;
    const found: { id: string; object: ObjectInfo }[] = [];
    for await (const object of this.destination.list(prefix)) {
      const [id = '', name] = object.key.slice(prefix.length).split('/');
      if (name === 'manifest.json' && parseSnapshotId(id)) found.push({ id, object });
    }
    return found.sort((a, b) => (a.id < b.id ? 1 : -1));
  }

  private readManifest(id: string, signal?: AbortSignal): Promise<Buffer> {
    return readDocument(this.destination, manifestKey(this.project, id), { signal });
  }

  private decode(id: string, bytes: Buffer, seen: SeenChain | undefined): Snapshot {
    const hash = manifestHash(bytes);
    const manifest = decodeManifest(bytes);
    const verdict = this.signing.verify('manifest', `the manifest of ${id}`, JSON.parse(bytes.toString('utf8')));
    if (manifest.id !== id || manifest.project !== this.project) {
      const code = verdict === 'signed' ? 'SIGNATURE_WRONG' : 'OBJECT_DAMAGED';
      throw new LifeboatError(code, `the manifest of ${id} belongs to another snapshot`, {
        hint: 'Somebody put it there. Use another snapshot or another copy of the backups.',
      });
    }
    const changed = changedSince({ id, hash }, seen ?? []);
    if (changed) throw verdict === 'unsigned' ? unsigned(`the manifest of ${id}`) : changed;
    return { manifest, hash, ...(verdict === 'unsigned' ? { unsigned: true } : {}) };
  }

  checkObjects(refs: readonly (ObjectRef | undefined)[]): Promise<void> {
    return checkPresence(this.destination, this.project, refs);
  }

  private sealing(record?: (key: string) => Promise<void>) {
    return { compress: true, keys: this.keys, ...(record ? { record } : {}) };
  }

  private directory(id: string): string {
    return `${this.project}/snapshots/${id}/`;
  }
}
