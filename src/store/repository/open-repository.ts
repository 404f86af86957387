import { hasCode, LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { deleteAll } from '../objects/delete-all.ts';
import { checkDocumentSize, checkPresence, putDocument } from '../objects/documents.ts';
import {
  decodeManifest,
  encodeManifest,
  type Manifest,
  manifestHash,
  manifestKey,
  type ObjectRef,
  objectsOf,
  type RepositoryInfo,
} from '../objects/manifest.ts';
import { fetchDocument, fetchFile, putFile, readDocument } from '../objects/objects.ts';
import { parseSnapshotId } from '../objects/snapshot-id.ts';
import { putManifest } from './commit.ts';
import type { CommitOptions, ManifestCache, Repository, Snapshot, SnapshotList } from './repository.ts';
import { type RepositoryOptions, readOrCreateInfo } from './repository-info.ts';
import { addLost, changedSince, type SeenChain } from './seen-chain.ts';
import { sharePacks } from './shared-packs.ts';
import { Signing, unsigned } from './signing.ts';
import { isAboutManifest, newestFirst, withoutIntruders } from './snapshot-list.ts';

/**
 * Opens the repository at a destination.
 *
 * @throws DEST_FOREIGN if the destination holds other things or another repository than expected, or is empty and
 * `create` is not set; FORMAT_UNSUPPORTED; OBJECT_DAMAGED
 */
export async function openRepository(destination: Destination, options: RepositoryOptions): Promise<Repository> {
  const { project, keys, signingKeys, manifests, seen = async () => undefined } = options;
  const info = await readOrCreateInfo(destination, options);
  const signing = new Signing(info.id, signingKeys);
  return new StoredRepository(destination, project, info, { keys, signing, seen, manifests });
}

interface Inner {
  keys: SealKeys;
  signing: Signing;
  /** reads which snapshots the agent has seen here */
  seen(): Promise<SeenChain | undefined>;
  manifests: ManifestCache | undefined;
}

class StoredRepository implements Repository {
  readonly destination: Destination;
  readonly project: string;
  readonly info: RepositoryInfo;
  readonly keys: SealKeys;
  readonly signing: Signing;
  private readonly seen: Inner['seen'];
  private readonly manifests: Inner['manifests'];

  constructor(
    destination: Destination,
    project: string,
    info: RepositoryInfo,
    { keys, signing, seen, manifests }: Inner,
  ) {
    this.destination = destination;
    this.project = project;
    this.keys = keys;
    this.info = info;
    this.signing = signing;
    this.seen = seen;
    this.manifests = manifests;
  }

  through(destination: Destination): Repository {
    const { project, info, keys, signing, seen, manifests } = this;
    return new StoredRepository(destination, project, info, { keys, signing, seen, manifests });
  }

  async snapshots(signal?: AbortSignal, { fetch = false } = {}): Promise<SnapshotList> {
    const list: SnapshotList = { snapshots: [], damaged: [] };
    // Read this before the listing, because a run may commit in the meantime.
    const seen = await this.seen();
    const share = sharePacks();
    const stored = await this.listManifests();
    await this.manifests?.keepOnly(stored.map(({ id }) => id));
    for (const { id, version } of stored) {
      signal?.throwIfAborted();
      try {
        const bytes = await this.manifestBytes(id, fetch ? undefined : version, signal);
        const snapshot = this.decode(id, bytes, seen);
        share(snapshot.manifest);
        list.snapshots.push(snapshot);
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

  async commit(manifest: Manifest, options: CommitOptions = {}): Promise<Snapshot> {
    // Sign the manifest as it will be read, without fields that encoding drops.
    const plain = decodeManifest(encodeManifest(manifest));
    const bytes = encodeManifest(this.signing.sign('manifest', plain));
    checkDocumentSize(`the manifest of ${manifest.id}`, bytes.length);
    const objects = objectsOf(manifest);
    const snapshot = { manifest: decodeManifest(bytes), hash: manifestHash(bytes) };
    await putManifest({ repository: this, snapshot, bytes, objects }, options);
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
    const named = new Set(snapshots.flatMap(({ manifest }) => objectsOf(manifest).map(({ key }) => key)));
    const isOwn = (key: string) => key.startsWith(`${this.project}/`) && !key.endsWith('/manifest.json');
    const wanted = keys.filter((key) => isOwn(key) && !named.has(key));
    const kept = new Set(await deleteAll(this.destination, wanted));
    const removed = wanted.filter((key) => !kept.has(key));
    return { removed, refused: keys.filter((key) => !removed.includes(key)) };
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
