import type { LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { Listing } from '../../destinations/listing.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import type { Manifest, ObjectRef, PackListRef, RepositoryInfo } from '../objects/manifest.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import type { Lease } from './lease.ts';
import type { Signing } from './signing.ts';

/** A snapshot as its manifest describes it. */
export interface Snapshot {
  manifest: Manifest;
  /** hex SHA-256 of the manifest's bytes: the `previous` of the next manifest */
  hash: string;
  /** a signing key is set, and this manifest is not signed: it is not trusted */
  unsigned?: true;
}

/** A snapshot's place in the chain of manifests. */
export interface Place {
  id: string;
  sequence: number;
  /** hex SHA-256 of the manifest's bytes */
  hash: string;
  /** set if the manifest has a signature: only a signed tombstone explains its loss then */
  signed?: true;
}

/** The snapshots of a project, newest first by the chain, and the manifests that are unreadable or not as signed. */
export interface SnapshotList {
  snapshots: Snapshot[];
  damaged: {
    id: string;
    error: LifeboatError;
    /** set if the manifest is gone without a tombstone: the place in the chain where the agent has seen it */
    lost?: Place;
  }[];
}

/** Options of a commit. */
export interface CommitOptions {
  /**
   * proves that no other agent writes here, see {@link Lease}; called right before the manifest is put, and again after
   */
  fence?: Lease['fence'];
  /** receives the objects of the project that the fence has listed, and the manifest */
  listed?: Listing;
  /** called before an import is pinned, with the key of the pin, which a failed run removes like its objects */
  pinning?(key: string): void;
  /** Called right before the manifest is sent. From then on it may appear at any time, even if the commit fails. */
  sending?(): void;
}

/** The bytes of manifests that were read before, so that they need not be fetched again. */
export interface ManifestCache {
  /** Returns the bytes of a manifest if they are those of the object with that version. */
  read(id: string, version: string): Promise<Buffer | undefined>;
  /** Saves the bytes of a manifest. Never rejects: without them, the manifest is fetched again. */
  write(id: string, version: string, bytes: Buffer): Promise<void>;
  /** Removes the bytes of all other manifests. Never rejects. */
  keepOnly(ids: readonly string[]): Promise<void>;
}

/** Lists of packs as they are stored. A list is found by its hash, so one cache serves all repositories. */
export interface PackListCache {
  /** Returns the stored bytes of a list if they have its size and hash. Never rejects. */
  read(ref: ObjectRef): Promise<Buffer | undefined>;
  /** Saves the stored bytes of a list. Never rejects: without them, the list is fetched again. */
  write(ref: ObjectRef, stored: Buffer): Promise<void>;
}

/** The snapshots of one Compose project at one destination. */
export interface Repository {
  readonly info: RepositoryInfo;
  readonly project: string;
  readonly destination: Destination;
  /** the keys that encrypt and decrypt objects */
  readonly keys: SealKeys;
  readonly signing: Signing;
  /**
   * Returns the same repository, read and written through another view of its destination.
   *
   * @param options `uncached`: fetches each list of packs, even if a cache has it
   */
  through(destination: Destination, options?: { uncached: boolean }): Repository;
  /**
   * Lists the snapshots. With a signing key, an unsigned manifest is listed only if it is older than every signed one,
   * from before the key was set. Any other unsigned manifest is damaged (SIGNATURE_MISSING). A manifest that the agent
   * has seen, and that is gone or was changed since, is damaged as well (CHAIN_BROKEN).
   *
   * A manifest that was read before is not fetched again if the destination shows that the object is the same.
   *
   * @param options `fetch`: fetches every manifest, which also finds those that have become unreadable
   * @throws an error that does not concern one manifest, such as DEST_UNREACHABLE, because callers would take an
   * incomplete list for the whole one; the signal's reason
   */
  snapshots(signal?: AbortSignal, options?: { fetch?: boolean }): Promise<SnapshotList>;
  /** Finds a snapshot by its id or a unique prefix of it; for `latest` see chain.ts. Throws SNAPSHOT_UNKNOWN. */
  resolve(name: string): Promise<Snapshot>;
  /** Puts a source's facts. `record` is called with the object's key before it is put. Throws SNAPSHOT_TOO_LARGE. */
  putFacts(id: string, source: string, facts: unknown, record?: (key: string) => Promise<void>): Promise<ObjectRef>;
  readFacts(ref: ObjectRef): Promise<unknown>;
  /** Puts a plain index file, compressed, and encrypted if there is a key. `record` as in {@link putFacts}. */
  putIndex(id: string, source: string, path: string, record?: (key: string) => Promise<void>): Promise<ObjectRef>;
  /** Fetches an index to a new local file, in plain. The file exists only if its content is as it was stored. */
  fetchIndex(ref: ObjectRef, path: string, signal?: AbortSignal): Promise<void>;
  /**
   * Puts the list of a source's packs, compressed. Returns `last`, the list of an earlier snapshot, if it has the same
   * lines, and undefined if there are none. `use`: the bytes of each pack in use, by id. `record` as in
   * {@link putFacts}. Throws SNAPSHOT_TOO_LARGE.
   */
  putPacks(
    of: { id: string; source: string; packs: readonly PackRef[]; use?: ReadonlyMap<string, number> },
    options?: { last?: PackListRef | undefined; record?: (key: string) => Promise<void> },
  ): Promise<PackListRef | undefined>;
  /**
   * Reads a list of packs, from the cache if it is there, as plain lines; see pack-lists.ts. Throws OBJECT_MISSING,
   * OBJECT_DAMAGED.
   */
  readPackList(ref: PackListRef, signal?: AbortSignal): Promise<Buffer>;
  /** Checks the presence and size of objects. Throws OBJECT_MISSING or OBJECT_DAMAGED. */
  checkObjects(refs: readonly (ObjectRef | undefined)[]): Promise<void>;
  /**
   * Commits a snapshot: signs the manifest, reads the lists of its packs, checks the presence and size of every object
   * that it needs, then puts it, see {@link putManifest}. Throws DEST_FOREIGN, OBJECT_MISSING, OBJECT_DAMAGED,
   * SNAPSHOT_TOO_LARGE.
   */
  commit(manifest: Manifest, options?: CommitOptions): Promise<Snapshot>;
  /**
   * Removes the objects that a failed run left behind. `keys` are the keys that its journal announced, of all its
   * sources or of one. Refuses keys that a manifest names, manifests and their pins, and keys outside this project, and
   * returns them.
   *
   * An unreadable manifest does not block the cleanup of other runs: objects have unique names, so only the manifest of
   * the run that stored them, or a later one built on it, can name them. If that run's own manifest is unreadable, all
   * keys are refused, because the run had committed, and a copy may restore the manifest. Keys that the destination
   * does not let Lifeboat delete are refused too, and left to a prune.
   */
  removeObjects(keys: readonly string[]): Promise<{ removed: string[]; refused: string[] }>;
}
