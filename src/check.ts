import { createHash } from 'node:crypto';
import path from 'node:path';
import { type NeededKey, neededKeys } from './check-keys.ts';
import type { Destination } from './destinations/destination.ts';
import { type ErrorInfo, errorInfo, LifeboatError } from './errors.ts';
import { withLookDirectory } from './spool.ts';
import { type ChainReport, readChain } from './store/chain.ts';
import { isAboutKeys } from './store/encryption.ts';
import { readIndexFile } from './store/index-file.ts';
import type { ManifestSource, ObjectRef } from './store/manifest.ts';
import { shortPath } from './store/path.ts';
import { objectsOf, type Repository, type Snapshot } from './store/repository.ts';

export interface CheckOptions {
  /** which share of the stored bytes to read and hash: 0 to 1 */
  readData: number;
  /** where the last check with a share ended: the key after which this one goes on */
  after?: string;
  /** the directory of runs in the spool, with room for one index at a time */
  spool: string;
  signal: AbortSignal;
  progress?(done: number, total: number): void;
}

/** An object that is not as a manifest says. */
export interface DamagedObject {
  key: string;
  error: ErrorInfo;
}

/** What a damaged object means for one source of one snapshot. */
export interface Affected {
  snapshot: string;
  source: string;
  /** `whole`: nothing of the source can be restored from this snapshot; `part`: the files below cannot */
  extent: 'whole' | 'part';
  files: number;
  /** true: an index that no key here opens would say which of the files */
  unknown?: true;
  /** the first of them, for people */
  examples: string[];
}

export interface CheckResult {
  snapshots: number;
  objects: number;
  /** bytes of all objects that manifests name */
  bytes: number;
  /** bytes that were read and hashed */
  bytesRead: number;
  damaged: DamagedObject[];
  /** manifests that cannot be read or relied on, breaks in their chain, tombstones and pins that are not what was signed */
  manifests: { snapshot: string; error: ErrorInfo }[];
  signatures: ChainReport['signatures'];
  affected: Affected[];
  /** what it takes to read the snapshots */
  keys: NeededKey[];
  /** for each source the newest snapshot from which all of it can be restored, as far as this check saw */
  restorable: Record<string, string | null>;
  /** whether anything at all can still be restored */
  usable: boolean;
  /** where the next check with a share goes on; absent after the last object */
  next?: string;
}

const EXAMPLES = 5;

/**
 * Looks whether the repository is what its manifests say: the manifests themselves, their signatures, sequence and chain, every
 * object's presence and size, and the content of as much as was asked for. Changes nothing.
 */
export async function check(repository: Repository, options: CheckOptions): Promise<CheckResult> {
  const { snapshots, damaged: unreadable } = await repository.snapshots(options.signal);
  const objects = new Map<string, ObjectRef>();
  for (const { manifest } of snapshots) for (const ref of objectsOf(manifest)) objects.set(ref.key, ref);
  const bytes = [...objects.values()].reduce((sum, { size }) => sum + size, 0);
  const damaged = await checkPresence(repository.destination, repository.project, objects);
  const read = await readShare(repository.destination, objects, damaged, bytes, options);
  const chain = await readChain(repository, snapshots);
  const manifests = [
    ...unreadable.map(({ id, error }) => ({ snapshot: id, error: errorInfo(error) })),
    ...chain.findings,
  ];
  const affected = await findAffected(repository, snapshots, damaged, options);
  return {
    snapshots: snapshots.length,
    objects: objects.size,
    bytes,
    bytesRead: read.bytes,
    damaged: [...damaged].map(([key, error]) => ({ key, error })),
    manifests,
    signatures: chain.signatures,
    affected,
    keys: neededKeys(snapshots),
    restorable: restorableOf(snapshots, affected),
    usable: isUsable(snapshots, affected),
    ...(read.next === undefined ? {} : { next: read.next }),
  };
}

/** One listing against all names: presence and size. */
async function checkPresence(
  destination: Destination,
  project: string,
  objects: ReadonlyMap<string, ObjectRef>,
): Promise<Map<string, ErrorInfo>> {
  const damaged = new Map<string, ErrorInfo>();
  const missing = new Set(objects.keys());
  for await (const { key, size } of destination.list(`${project}/`)) {
    const ref = objects.get(key);
    if (!ref) continue;
    missing.delete(key);
    if (size === ref.size) continue;
    damaged.set(key, { code: 'OBJECT_DAMAGED', message: `${key} has ${size} bytes instead of ${ref.size}` });
  }
  for (const key of missing) damaged.set(key, { code: 'OBJECT_MISSING', message: `${key} is not in the repository` });
  return damaged;
}

/**
 * Reads and hashes objects in the order of their keys, beginning after `after` and going round, until the share is read.
 * Repeated checks of a share therefore come past everything.
 */
async function readShare(
  destination: Destination,
  objects: ReadonlyMap<string, ObjectRef>,
  damaged: Map<string, ErrorInfo>,
  total: number,
  { readData, after, signal, progress }: CheckOptions,
): Promise<{ bytes: number; next?: string }> {
  const keys = [...objects.keys()].sort();
  const start = readData >= 1 || after === undefined ? 0 : keys.findIndex((key) => key > after);
  const order = start <= 0 ? keys : [...keys.slice(start), ...keys.slice(0, start)];
  const wanted = total * Math.min(readData, 1);
  let bytes = 0;
  let last: string | undefined;
  for (const key of order) {
    if (bytes >= wanted) break;
    signal.throwIfAborted();
    const ref = objects.get(key) as ObjectRef;
    last = key;
    if (damaged.has(key)) continue;
    const error = await readOne(destination, ref, signal);
    if (error) damaged.set(key, error);
    bytes += ref.size;
    progress?.(bytes, wanted);
  }
  return last === undefined || readData >= 1 ? { bytes } : { bytes, next: last };
}

async function readOne(destination: Destination, ref: ObjectRef, signal: AbortSignal): Promise<ErrorInfo | undefined> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of await destination.get(ref.key, { signal })) hash.update(chunk as Buffer);
  } catch (error) {
    signal.throwIfAborted();
    return errorInfo(error);
  }
  if (hash.digest('hex') === ref.sha256) return undefined;
  return { code: 'OBJECT_DAMAGED', message: `${ref.key} is not what was stored` };
}

async function findAffected(
  repository: Repository,
  snapshots: readonly Snapshot[],
  damaged: ReadonlyMap<string, ErrorInfo>,
  options: CheckOptions,
): Promise<Affected[]> {
  const affected: Affected[] = [];
  if (damaged.size === 0) return affected;
  for (const { manifest } of snapshots) {
    for (const [source, entry] of Object.entries(manifest.sources)) {
      const found = await affectedSource(repository, entry, damaged, options);
      if (found) affected.push({ snapshot: manifest.id, source, ...found });
    }
  }
  return affected;
}

async function affectedSource(
  repository: Repository,
  entry: ManifestSource,
  damaged: ReadonlyMap<string, ErrorInfo>,
  options: CheckOptions,
): Promise<Omit<Affected, 'snapshot' | 'source'> | undefined> {
  if (entry.index && damaged.has(entry.index.key)) return { extent: 'whole', files: entry.files, examples: [] };
  const packs = new Set(entry.packs.filter(({ key }) => damaged.has(key)).map(({ id }) => id));
  const factsLost = entry.facts !== undefined && damaged.has(entry.facts.key);
  if (packs.size === 0 && !factsLost) return undefined;
  // A database needs its facts and every file of its dump's own part; a volume gives back what is whole.
  if (entry.kind === 'postgres' || !entry.index) return { extent: 'whole', files: entry.files, examples: [] };
  const { index } = entry;
  try {
    return await withLookDirectory(options.spool, async (directory) => {
      const file = path.join(directory, 'index.ndjson');
      await repository.fetchIndex(index, file, options.signal);
      const result = { extent: 'part' as const, files: 0, examples: [] as string[] };
      for await (const line of readIndexFile(file)) {
        if (line.pack === undefined || !packs.has(line.pack)) continue;
        result.files += 1;
        if (result.examples.length < EXAMPLES) result.examples.push(shortPath(line.path));
      }
      return result;
    });
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof LifeboatError)) throw error;
    if (isAboutKeys(error)) return { extent: 'part', files: entry.files, unknown: true, examples: [] };
    return { extent: 'whole', files: entry.files, examples: [] };
  }
}

function restorableOf(snapshots: readonly Snapshot[], affected: readonly Affected[]): Record<string, string | null> {
  const bad = new Set(affected.map(({ snapshot, source }) => `${snapshot} ${source}`));
  const result: Record<string, string | null> = {};
  for (const { manifest } of snapshots) {
    for (const [source, { status }] of Object.entries(manifest.sources)) {
      result[source] ??= status === 'failed' || bad.has(`${manifest.id} ${source}`) ? null : manifest.id;
    }
  }
  return result;
}

function isUsable(snapshots: readonly Snapshot[], affected: readonly Affected[]): boolean {
  return snapshots.some(({ manifest }) =>
    Object.entries(manifest.sources).some(([source, { status, files }]) => {
      const harm = affected.find((one) => one.snapshot === manifest.id && one.source === source);
      return (
        status !== 'failed' && (!harm || (harm.extent === 'part' && (harm.unknown === true || harm.files < files)))
      );
    }),
  );
}
