import path from 'node:path';
import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import { isFuture } from '../plan/values/clock.ts';
import { plural } from '../report/format.ts';
import { withLookDirectory } from '../run/spool.ts';
import { readIndexFile } from '../store/filesystem/index-file.ts';
import { shortPath } from '../store/filesystem/path.ts';
import type { ManifestSource, ObjectRef } from '../store/objects/manifest.ts';
import { objectsOf } from '../store/objects/manifest.ts';
import { type ChainReport, readChain } from '../store/repository/chain.ts';
import { goneAway } from '../store/repository/copy-objects.ts';
import { DamageJudge, isDamage } from '../store/repository/damage.ts';
import { refuseEmptied } from '../store/repository/emptied.ts';
import { damagedLeases } from '../store/repository/lease-row.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import { damagedLists } from '../store/repository/unreferenced.ts';
import { type NeededKey, neededKeys } from './keys.ts';
import { type ReadOptions, readShare } from './read.ts';

interface CheckOptions extends ReadOptions {
  /** the directory of runs in the spool, with room for one index at a time */
  spool: string;
}

/** An object that is not as a manifest says. */
interface DamagedObject {
  key: string;
  error: ErrorInfo;
}

/** What a damaged object means for one source of one snapshot. */
interface Affected {
  snapshot: string;
  source: string;
  /** `whole`: nothing of the source can be restored from this snapshot; `part`: the files below cannot */
  extent: 'whole' | 'part';
  files: number;
  /** true: which of the files, an index would say that no key here opens, or that could not be read */
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
  /** objects that could not be read now, which says nothing of what is in them */
  unread: DamagedObject[];
  /** damaged leases and lists of unreferenced objects: no snapshot needs them, and later ones take their place */
  records: DamagedObject[];
  /** why the rest could not be read: the destination went away */
  stopped?: ErrorInfo;
  /** manifests that cannot be read or relied on, breaks in their chain, tombstones and pins that are not what was signed */
  manifests: { snapshot: string; error: ErrorInfo }[];
  signatures: ChainReport['signatures'];
  affected: Affected[];
  /** what it takes to read the snapshots */
  keys: NeededKey[];
  /** for each source the newest snapshot from which all that it holds of it can be restored, as far as this check saw */
  restorable: Record<string, string | null>;
  /** the same, of the snapshots that hold the whole source: not partly failed */
  whole: Record<string, string | null>;
  /** ids of snapshots that are dated in the future: a clock was wrong. No damage */
  ahead: string[];
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
  await refuseEmptied(repository, snapshots, new Set());
  const judge = new DamageJudge(repository, [...objects.keys()]);
  const { damaged, unlooked } = await checkPresence(repository, objects);
  // An empty listing is one of a place that is not there.
  if (damaged.size > 0 && !(await judge.isThere())) throw goneAway(repository.destination, undefined);
  const chain = await readChain(repository, snapshots);
  const records = await damagedRecords(repository);
  const read = await readShare({ repository, objects, damaged, unlooked, judge, total: bytes }, options);
  const manifests = [
    ...unreadable.map(({ id, error }) => ({ snapshot: id, error: errorInfo(error) })),
    ...chain.findings,
  ];
  const affected = await findAffected(repository, snapshots, { damaged, stopped: read.stopped !== undefined }, options);
  return {
    snapshots: snapshots.length,
    objects: objects.size,
    bytes,
    bytesRead: read.bytes,
    damaged: [...damaged].map(([key, error]) => ({ key, error })),
    unread: [...read.unread].map(([key, error]) => ({ key, error })),
    records,
    ...(read.stopped ? { stopped: read.stopped } : {}),
    manifests,
    signatures: chain.signatures,
    affected,
    keys: neededKeys(snapshots),
    restorable: newestOf(snapshots, affected, ['ok', 'partial']),
    whole: newestOf(snapshots, affected, ['ok']),
    ahead: datedAhead(snapshots),
    usable: isUsable(snapshots, affected),
    ...(read.next === undefined ? {} : { next: read.next }),
  };
}

async function damagedRecords({ destination, project }: Repository): Promise<DamagedObject[]> {
  const keys = [
    ...(await damagedLeases({ destination, project })).map((key) => ({ key, hint: 'The next run takes a new lease.' })),
    ...(await damagedLists(destination, project)).map((key) => ({
      key,
      hint: 'The next prune writes a new list. Objects that no snapshot needs stay for a day longer.',
    })),
  ];
  return keys.map(({ key, hint }) => ({ key, error: { code: 'OBJECT_DAMAGED', message: `${key} is damaged`, hint } }));
}

function datedAhead(snapshots: readonly Snapshot[]): string[] {
  const now = Date.now();
  return snapshots
    .map(({ manifest }) => manifest)
    .flatMap(({ id, start }) => (isFuture(Date.parse(start), now) ? [id] : []));
}

/** One listing against all names: presence and size. */
async function checkPresence(
  { destination, project }: Repository,
  objects: ReadonlyMap<string, ObjectRef>,
): Promise<{ damaged: Map<string, ErrorInfo>; unlooked: Map<string, LifeboatError> }> {
  const damaged = new Map<string, ErrorInfo>();
  const unlooked = new Map<string, LifeboatError>();
  const missing = new Set(objects.keys());
  for await (const { key, size, unread } of destination.list(`${project}/`)) {
    const ref = objects.get(key);
    if (!ref) continue;
    missing.delete(key);
    if (unread) unlooked.set(key, unread);
    if (size === ref.size || size === undefined) continue;
    damaged.set(key, { code: 'OBJECT_DAMAGED', message: `${key} has ${plural(size, 'byte')} instead of ${ref.size}` });
  }
  for (const key of missing) damaged.set(key, { code: 'OBJECT_MISSING', message: `${key} is not in the repository` });
  return { damaged, unlooked };
}

interface Found {
  damaged: ReadonlyMap<string, ErrorInfo>;
  /** the destination has gone away: nothing more is asked of it */
  stopped: boolean;
}

async function findAffected(
  repository: Repository,
  snapshots: readonly Snapshot[],
  found: Found,
  options: CheckOptions,
): Promise<Affected[]> {
  const affected: Affected[] = [];
  if (found.damaged.size === 0) return affected;
  for (const { manifest } of snapshots) {
    for (const [source, entry] of Object.entries(manifest.sources)) {
      const harm = await affectedSource(repository, entry, found, options);
      if (harm) affected.push({ snapshot: manifest.id, source, ...harm });
    }
  }
  return affected;
}

async function affectedSource(
  repository: Repository,
  entry: ManifestSource,
  { damaged, stopped }: Found,
  options: CheckOptions,
): Promise<Omit<Affected, 'snapshot' | 'source'> | undefined> {
  if (entry.index && damaged.has(entry.index.key)) return { extent: 'whole', files: entry.files, examples: [] };
  const packs = new Set(entry.packs.filter(({ key }) => damaged.has(key)).map(({ id }) => id));
  const factsLost = entry.facts !== undefined && damaged.has(entry.facts.key);
  if (packs.size === 0 && !factsLost) return undefined;
  // A database needs its facts and every file of its dump's own part; a volume gives back what is whole.
  if (entry.kind === 'postgres' || !entry.index) return { extent: 'whole', files: entry.files, examples: [] };
  const { index } = entry;
  const unknown = { extent: 'part' as const, files: entry.files, unknown: true as const, examples: [] };
  if (stopped) return unknown;
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
    return isDamage(error) ? { extent: 'whole', files: entry.files, examples: [] } : unknown;
  }
}

/** For each source, the newest undamaged snapshot in which it has one of the statuses. */
function newestOf(
  snapshots: readonly Snapshot[],
  affected: readonly Affected[],
  statuses: readonly ManifestSource['status'][],
): Record<string, string | null> {
  const bad = new Set(affected.map(({ snapshot, source }) => `${snapshot} ${source}`));
  const result: Record<string, string | null> = {};
  for (const { manifest } of snapshots) {
    for (const [source, { status }] of Object.entries(manifest.sources)) {
      result[source] ??= statuses.includes(status) && !bad.has(`${manifest.id} ${source}`) ? manifest.id : null;
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
