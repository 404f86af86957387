import { type ErrorInfo, errorInfo } from '../base/errors.ts';
import { isFuture } from '../plan/values/clock.ts';
import { documentsOf, type ManifestSource } from '../store/objects/manifest.ts';
import { type ChainReport, readChain } from '../store/repository/chain.ts';
import { goneAway } from '../store/repository/copy-objects.ts';
import { DamageJudge, isDamage } from '../store/repository/damage.ts';
import { refuseEmptied } from '../store/repository/emptied.ts';
import { damagedLeases } from '../store/repository/lease-row.ts';
import { listsOf, visitPacks } from '../store/repository/pack-lists.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import { damagedLists } from '../store/repository/unreferenced.ts';
import type { Remembering } from '../store/wal/remembered.ts';
import { type Affected, findAffected } from './affected.ts';
import { type NeededKey, neededKeys } from './keys.ts';
import { NeededObjects } from './needed-objects.ts';
import { type ReadOptions, readShare } from './read.ts';
import { walToCheck } from './wal.ts';

interface CheckOptions extends ReadOptions {
  /** the spool's directory of runs, with room for one index at a time */
  spool: string;
  /** absent: the repository is not the agent's own */
  remembered?: Remembering;
}

/** An object that does not match its manifest. */
interface DamagedObject {
  key: string;
  error: ErrorInfo;
}

export interface CheckResult {
  snapshots: number;
  objects: number;
  /** size of all objects that manifests name, bytes */
  bytes: number;
  /** bytes that were read and hashed */
  bytesRead: number;
  damaged: DamagedObject[];
  /** objects that could not be read now and may be undamaged */
  unread: DamagedObject[];
  /** damaged leases and lists of unreferenced objects; no snapshot needs them, and later ones replace them */
  records: DamagedObject[];
  /** why the check ended early: the destination became unreachable, or the check was interrupted */
  stopped?: ErrorInfo;
  /** unusable manifests, breaks in their chain, and tombstones and pins with a wrong signature */
  manifests: { snapshot: string; error: ErrorInfo }[];
  signatures: ChainReport['signatures'];
  affected: Affected[];
  /** the keys that the snapshots need */
  keys: NeededKey[];
  /**
   * by source, the newest snapshot that can be restored with all it holds of the source, as far as this check has read
   */
  restorable: Record<string, string | null>;
  /** the same, considering only snapshots that hold the whole source */
  whole: Record<string, string | null>;
  /** ids of snapshots with a date in the future, because a clock was wrong; not damage */
  ahead: string[];
  /** true if anything can still be restored */
  usable: boolean;
  /** the key after which the next check with a share continues; absent after the last object */
  next?: string;
}

/**
 * Checks a repository against its manifests: the manifests themselves, their signatures, sequence and chain, the
 * presence and size of every object, and the content of the share that `options` ask for. Changes nothing.
 */
export async function check(repository: Repository, options: CheckOptions): Promise<CheckResult> {
  const { snapshots, damaged: unreadable } = await repository.snapshots(options.signal, { fetch: true });
  await refuseEmptied(repository, snapshots, new Set());
  const manifests = snapshots.map(({ manifest }) => manifest);
  // Before the listing, because WAL is stored all the time.
  const wal = await walToCheck(repository, manifests, options);
  const { destination, project } = repository;
  const objects = await NeededObjects.list(destination.list(`${project}/`, { signal: options.signal }));
  for (const ref of manifests.flatMap(documentsOf)) objects.add(ref);
  const unread = await visitPacks(repository, listsOf(manifests), (pack) => objects.add(pack), options.signal);
  for (const ref of wal.objects) objects.add(ref);
  const judge = new DamageJudge(repository, async () => objects.keys());
  const { damaged, unsized } = objects;
  for (const { list, error } of unread) {
    if (!isDamage(error)) unsized.set(list.key, error);
    else if (!damaged.has(list.key)) damaged.set(list.key, errorInfo(error));
  }
  // A place that is not there lists no objects, so they would all look missing.
  if (damaged.size > 0 && !(await judge.isThere())) throw goneAway(destination, undefined);
  for (const { key, error } of wal.problems) damaged.set(key, error);
  const chain = await readChain(repository, snapshots);
  const records = await damagedRecords(repository);
  const read = await readShare({ repository, objects, judge }, options);
  const unusable = [
    ...unreadable.map(({ id, error }) => ({ snapshot: id, error: errorInfo(error) })),
    ...chain.findings,
  ];
  let { stopped } = read;
  const find = (stopped: boolean) => findAffected(repository, snapshots, { damaged, stopped }, options);
  const affected = await find(stopped !== undefined).catch((error: unknown) => {
    if (!options.signal.aborted) throw error;
    stopped = errorInfo(options.signal.reason);
    return find(true);
  });
  return {
    snapshots: snapshots.length,
    objects: objects.size,
    bytes: objects.bytes,
    bytesRead: read.bytes,
    damaged: [...damaged].map(([key, error]) => ({ key, error })),
    unread: [...read.unread].map(([key, error]) => ({ key, error })),
    records,
    ...(stopped ? { stopped } : {}),
    manifests: unusable,
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

/** Returns, by source, the newest undamaged snapshot in which it has one of the statuses. */
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
