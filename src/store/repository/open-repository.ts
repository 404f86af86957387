import { hasCode, LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { isPackKey } from '../../destinations/keys.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { MAX_RECORD } from '../objects/bounds.ts';
import { deleteAll } from '../objects/delete-all.ts';
import { checkDocumentSize, checkPresence, putDocument, putFile } from '../objects/documents.ts';
import { freeList } from '../objects/list-lines.ts';
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
import { fetchDocument, fetchFile, readDocument } from '../objects/objects.ts';
import { encodePackList, fetchStoredList, putPackList, unpackList } from '../objects/pack-list.ts';
import { parseSnapshotId } from '../objects/snapshot-id.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { putManifest } from './commit.ts';
import { namedKeys, objectsOf } from './pack-lists.ts';
import { pinKey } from './pins.ts';
import type { CommitOptions, ManifestCache, PackListCache, Repository, Snapshot, SnapshotList } from './repository.ts';
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
  const { project, keys, signingKeys, manifests, lists, seen = async () => undefined } = options;
  const info = await readOrCreateInfo(destination, options);
  const signing = new Signing(info.id, signingKeys);
  return new StoredRepository(destination, project, info, { keys, signing, seen, manifests, lists });
}

interface Inner {
  keys: SealKeys;
  signing: Signing;
  /** reads which snapshots the agent has seen here */
  seen(): Promise<SeenChain | undefined>;
  manifests: ManifestCache | undefined;
  lists: PackListCache | undefined;
}

class StoredRepository implements Repository {
  readonly destination: Destination;
  readonly project: string;
  readonly info: RepositoryInfo;
  readonly keys: SealKeys;
  readonly signing: Signing;
  private readonly seen: Inner['seen'];
  private readonly manifests: Inner['manifests'];
  private readonly lists: Inner['lists'];

  constructor(
    destination: Destination,
    project: string,
    info: RepositoryInfo,
    { keys, signing, seen, manifests, lists }: Inner,
  ) {
    this.destination = destination;
    this.project = project;
    this.keys = keys;
    this.info = info;
    this.signing = signing;
    this.seen = seen;
    this.manifests = manifests;
    this.lists = lists;
  }

  through(destination: Destination, { uncached } = { uncached: false }): Repository {
    const { project, info, keys, signing, seen, manifests } = this;
    const lists = uncached ? undefined : this.lists;
    return new StoredRepository(destination, project, info, { keys, signing, seen, manifests, lists });
  }

  async snapshots(signal?: AbortSignal, { fetch = false } = {}): Promise<SnapshotList> {
    const list: SnapshotList = { snapshots: [], damaged: [] };
    // Read this before the listing, because a run may commit in the meantime.
    const seen = await this.seen();
    const stored = await this.listManifests();
    await this.manifests?.keepOnly(stored.map(({ id }) => id));
    for (const { id, version } of stored) {
      signal?.throwIfAborted();
      try {
        const bytes = await this.manifestBytes(id, fetch ? undefined : version, signal);
        list.snapshots.push(this.decode(id, bytes, seen));
      } catch (error) {
        signal?.throwIfAborted();
        if (isAboutManifest(error)) list.damaged.push({ id, error });
        // A prune has removed it since the listing. That is not damage.
        else if (!hasCode(error, 'OBJECT_MISSING')) throw error;
      }
    }
    list.snapshots.sort(newestFirst);
    return addLost(this, withoutIntruders(list), seen ?? []);
  }

  async resolve(name: string): Promise<Snapshot> {
    const ids = (await this.listManifests()).map(({ id }) => id);
    const matching = ids.filter((id) => id === name || id.startsWith(name));
    const exact = matching.length > 1 ? matching.find((id) => id === name) : matching[0];
    if (name !== '' && exact) return this.decode(exact, await this.manifestBytes(exact), await this.seen());
    const many = matching.length > 1;
    // Every id is without a dot, and most sources have one.
    const isSource = /^[^/]+\.[^/]+$/.test(name);
    throw new LifeboatError(
      'SNAPSHOT_UNKNOWN',
      many ? `more than one snapshot starts with ${name}` : `no snapshot ${name}`,
      {
        hint: isSource
          ? `If ${name} is a source, put the snapshot first: \`latest ${name}\`.`
          : '`lifeboat snapshots` lists them. You can shorten an id as long as it stays unique.',
      },
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
    const cached = await this.lists?.read(ref);
    const stored = cached ?? (await fetchStoredList(this.destination, ref, signal));
    const lines = await unpackList(ref, stored);
    if (!cached) await this.lists?.write(ref, stored);
    freeList(stored);
    return lines;
  }

  async putPacks(
    {
      id,
      source,
      packs,
      use,
    }: { id: string; source: string; packs: readonly PackRef[]; use?: ReadonlyMap<string, number> },
    { last, record }: { last?: PackListRef | undefined; record?: (key: string) => Promise<void> } = {},
  ): Promise<PackListRef | undefined> {
    if (packs.length === 0) return undefined;
    // The packs of an earlier snapshot do not matter here.
    const lines = encodePackList(packs.map((pack) => ({ ...pack, used: use?.get(pack.id) })));
    if (last?.count === packs.length) {
      const before = await this.readPackList(last).catch(() => undefined);
      if (before?.equals(lines)) return last;
    }
    const name = `${this.directory(id)}${source}`;
    // A run uses no packs that other keys encrypted.
    const keyId = packs.find((pack) => pack.keyId !== undefined)?.keyId;
    const list = { lines, count: packs.length, ...(keyId === undefined ? {} : { keyId }) };
    const { ref, stored } = await putPackList(this.destination, name, list, record);
    await this.lists?.write(ref, stored);
    return ref;
  }

  async commit(manifest: Manifest, options: CommitOptions = {}): Promise<Snapshot> {
    // Sign the manifest as it will be read, without fields that encoding drops.
    const plain = decodeManifest(encodeManifest(manifest));
    const bytes = encodeManifest(this.signing.sign('manifest', plain));
    checkDocumentSize(`the manifest of ${manifest.id}`, bytes.length, MAX_RECORD);
    const objects = await objectsOf(this, plain);
    const snapshot = { manifest: decodeManifest(bytes), hash: manifestHash(bytes) };
    await putManifest({ repository: this, snapshot, bytes, objects }, options);
    return snapshot;
  }

  async removeObjects(keys: readonly string[]): Promise<{ removed: string[]; refused: string[] }> {
    const { snapshots, damaged } = await this.snapshots();
    // Snapshots may share documents. But a manifest that names a new pack also names a new index, which is in its own
    // directory and was announced with the pack.
    const isOfUnreadable = (key: string) =>
      damaged.some(({ id }) => key.startsWith(this.directory(id)) || key === pinKey(this.project, id));
    if (keys.some(isOfUnreadable)) return { removed: [], refused: [...keys] };
    if (keys.length === 0) return { removed: [], refused: [] };
    const named = await namedKeys(this, snapshots);
    for (const { manifest } of snapshots) named.keys.add(pinKey(this.project, manifest.id));
    const isOwn = (key: string) => key.startsWith(`${this.project}/`) && !key.endsWith('/manifest.json');
    // A list that cannot be read may name any pack.
    const mayBeNamed = (key: string) => named.keys.has(key) || (named.unread.length > 0 && isPackKey(key));
    const wanted = keys.filter((key) => isOwn(key) && !mayBeNamed(key));
    const kept = new Set(await deleteAll(this.destination, wanted));
    const removed = new Set(wanted.filter((key) => !kept.has(key)));
    return { removed: [...removed], refused: keys.filter((key) => !removed.has(key)) };
  }

  /** Returns the ids of all manifests and the versions of their objects, the latest dates first. */
  private async listManifests(): Promise<{ id: string; version: string | undefined }[]> {
    const prefix = `${this.project}/snapshots/`;
    const found: { id: string; version: string | undefined }[] = [];
    for await (const { key, version } of this.destination.list(prefix)) {
      const [id = '', name] = key.slice(prefix.length).split('/');
      if (name === 'manifest.json' && parseSnapshotId(id)) found.push({ id, version });
    }
    return found.sort((a, b) => (a.id < b.id ? 1 : -1));
  }

  /** Returns the bytes of a manifest. With a `version`, those of that object may come from the cache. */
  private async manifestBytes(id: string, version?: string, signal?: AbortSignal): Promise<Buffer> {
    const known = version === undefined ? undefined : await this.manifests?.read(id, version);
    if (known) return known;
    const bytes = await readDocument(this.destination, manifestKey(this.project, id), { signal });
    if (version !== undefined) await this.manifests?.write(id, version, bytes);
    return bytes;
  }

  private decode(id: string, bytes: Buffer, seen: SeenChain | undefined): Snapshot {
    const hash = manifestHash(bytes);
    const manifest = decodeManifest(bytes);
    const read = this.signing.active ? JSON.parse(bytes.toString('utf8')) : undefined;
    const verdict = this.signing.verify('manifest', `the manifest of ${id}`, read);
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
