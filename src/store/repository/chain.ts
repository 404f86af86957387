import { type ErrorInfo, errorInfo } from '../../base/errors.ts';
import { isFuture } from '../../plan/values/clock.ts';
import { storesPast } from '../../report/trigger.ts';
import type { Manifest } from '../objects/manifest.ts';
import { parseSnapshotId } from '../objects/snapshot-id.ts';
import { readPins } from './pins.ts';
import type { Place, Repository, Snapshot, SnapshotList } from './repository.ts';
import { refuseLostEnd } from './seen-chain.ts';
import { unsigned, type Verdict } from './signing.ts';
import { readTombstones, sortOut, type Tombstone } from './tombstones.ts';

/**
 * The sequence skips so many numbers if it is unknown which ones a copy has. No destination loses that many snapshots,
 * and a chain may have gaps.
 */
export const SKIPPED_SEQUENCES = 1_000_000;

/** A problem with the documents of one snapshot. */
interface Finding {
  snapshot: string;
  error: ErrorInfo;
}

/** A manifest, or the tombstone of one, in its place in the chain. */
export interface Link {
  id: string;
  sequence: number;
  previous: string | null;
  hash: string;
}

/**
 * Returns the breaks in a chain of manifests.
 *
 * Each manifest names its predecessor by hash and has a higher sequence. Retention leaves a tombstone for each manifest
 * that it removes, so a manifest that is missing without a tombstone is a break. Gaps in the sequence are allowed, and
 * a manifest may name an earlier predecessor or none: the manifests in between were unreadable when it was made, see
 * {@link nextPlace}.
 */
export function chainBreaks(snapshots: readonly Snapshot[], tombstones: readonly Tombstone[]): Finding[] {
  return breaksOf(chainOf(snapshots, tombstones)).map(({ link, before }) => {
    const message = `${link.id} does not follow ${before}: a manifest between them is missing or was changed`;
    return { snapshot: link.id, error: { code: 'CHAIN_BROKEN' as const, message } };
  });
}

/** Returns the links that do not follow the link `before` them. */
export function breaksOf(chain: readonly Link[]): { link: Link; before: string }[] {
  const earlier = new Set<string | null>();
  return chain.flatMap((link, i) => {
    const before = chain[i - 1] ?? { id: 'the beginning', sequence: 0 };
    const follows = before.sequence < link.sequence && (link.previous === null || earlier.has(link.previous));
    earlier.add(link.hash);
    return follows ? [] : [{ link, before: before.id }];
  });
}

/** Returns the links of the chain, oldest first. A manifest counts rather than its tombstone. */
export function chainOf(snapshots: readonly Snapshot[], tombstones: readonly Tombstone[]): Link[] {
  const links = new Map<string, Link>();
  for (const { id, sequence, previous, sha256 } of tombstones) links.set(id, { id, sequence, previous, hash: sha256 });
  for (const { manifest, hash } of snapshots) {
    const { id, sequence, previous } = manifest;
    links.set(id, { id, sequence, previous, hash });
  }
  return [...links.values()].sort((a, b) => a.sequence - b.sequence || (a.id < b.id ? -1 : 1));
}

/**
 * Returns the chain position for the next manifest: after the last readable manifest or tombstone. The sequence skips
 * one number for each newer manifest that is unreadable, because a copy may restore that manifest, and two manifests
 * must not share a sequence.
 *
 * @param taken the new sequence is higher than this one, because another manifest may have it: one that may still
 * arrive (see lease.ts), or one that the destination has lost and a copy has
 */
export async function nextPlace(
  repository: Repository,
  { snapshots, damaged }: SnapshotList,
  taken = 0,
): Promise<Pick<Manifest, 'sequence' | 'previous'>> {
  const from = chainOf(snapshots, []).at(-1)?.id;
  const { usable } = sortOut(snapshots, await readTombstones(repository, from === undefined ? {} : { from }));
  const last = chainOf(snapshots, usable).at(-1);
  const unread = damaged.filter(({ id }) => last === undefined || id > last.id).length;
  return { sequence: Math.max((last?.sequence ?? 0) + unread, taken) + 1, previous: last?.hash ?? null };
}

/**
 * Returns the places of snapshots that the chain names and that are missing without a tombstone, for an agent that has
 * not seen the chain before. Reads every tombstone. The hash is that of the missing manifest. Its id is unknown, so the
 * result names the snapshot after it. The result is empty if any manifest is damaged, because its hash is unknown.
 */
export async function missingPlaces(
  repository: Repository,
  { snapshots, damaged }: Pick<SnapshotList, 'snapshots' | 'damaged'>,
): Promise<Place[]> {
  if (snapshots.length === 0 || damaged.length > 0) return [];
  const { usable } = sortOut(snapshots, await readTombstones(repository));
  return breaksOf(chainOf(snapshots, usable)).flatMap(({ link: { id, sequence, previous } }) =>
    previous === null ? [] : [{ id: `before ${id}`, sequence: Math.max(1, sequence - 1), hash: previous }],
  );
}

/** The state of the chain and of the signatures of a project's documents. */
export interface ChainReport {
  findings: Finding[];
  signatures: {
    /** true if a signing key is set, so signatures were verified */
    checked: boolean;
    /** number of manifests with a signature, verified only if `checked` */
    signed: number;
    /** with a key: the documents without a signature that are older than the key */
    unsigned: string[];
    /** ids of the keys that signed the manifests */
    keys: string[];
  };
}

/**
 * Checks the chain of manifests and tombstones, and the signatures of tombstones and pins. The signatures of manifests
 * were verified when `snapshots` was read.
 */
export async function readChain(repository: Repository, snapshots: readonly Snapshot[]): Promise<ChainReport> {
  const findings: Finding[] = [];
  const wrong = (id: string, error: unknown) => void findings.push({ snapshot: id, error: errorInfo(error) });
  const { usable, forged } = sortOut(snapshots, await readTombstones(repository, { wrong }));
  for (const { id } of forged) wrong(id, unsigned(`the tombstone of ${id}`));
  const old = snapshots.filter((one) => one.unsigned).map(({ manifest }) => manifest.id);
  const seen = (id: string, verdict: Verdict) => {
    if (verdict === 'unsigned') old.push(`the pin of ${id}`);
  };
  await readPins(repository, { seen, wrong });
  const signatures = snapshots.flatMap(({ manifest }) => manifest.signature ?? []);
  return {
    findings: [...findings, ...chainBreaks(snapshots, usable)],
    signatures: {
      checked: repository.signing.active,
      signed: signatures.length,
      unsigned: old,
      keys: [...new Set(signatures.map(({ keyId }) => keyId))],
    },
  };
}

/** Returns the first chain break after a snapshot: a snapshot newer than it is missing. */
export async function gapAfter(
  repository: Repository,
  snapshots: readonly Snapshot[],
  { id, sequence }: Pick<Manifest, 'id' | 'sequence'>,
): Promise<Finding | undefined> {
  const gap = async (from?: string) => {
    const { usable } = sortOut(snapshots, await readTombstones(repository, from === undefined ? {} : { from }));
    const newer = new Set(
      snapshots.filter((one) => one.manifest.sequence > sequence).map(({ manifest }) => manifest.id),
    );
    return chainBreaks(snapshots, usable).find(({ snapshot }) => newer.has(snapshot));
  };
  // Few of many tombstones have later dates, so read those first. All are needed only if a clock was wrong.
  return (await gap(id)) && gap();
}

/**
 * Returns a manifest that cannot be used and may be newer than a snapshot: its date is later, or the chain has no free
 * place for it among the older ones. A date in the future is ignored.
 *
 * @param now milliseconds since 1970
 */
export async function unreadAfter(
  repository: Repository,
  { snapshots, damaged }: SnapshotList,
  than: Pick<Manifest, 'id' | 'sequence'> | undefined,
  now: number,
): Promise<SnapshotList['damaged'][number] | undefined> {
  if (damaged.length === 0 || !than) return damaged[0];
  const isLater = ({ id }: { id: string }) => id > than.id && !isFuture(parseSnapshotId(id)?.date.getTime() ?? 0, now);
  const older = damaged.filter((one) => !isLater(one));
  const unread = new Set(damaged.map(({ id }) => id));
  const tombstones = (await readTombstones(repository)).filter(({ id }) => !unread.has(id));
  const known = chainOf(snapshots, tombstones).map(({ sequence }) => sequence);
  const places = countFree(known, than.sequence);
  return damaged.find(isLater) ?? (older.length > places ? older[0] : undefined);
}

/**
 * Counts the numbers from 1 that are free before `end`. Numbers that the sequence has skipped on purpose are not free.
 */
function countFree(taken: readonly number[], end: number): number {
  const sorted = [...new Set([0, ...taken.filter((one) => one < end), end])].sort((a, b) => a - b);
  const gaps = sorted.slice(1).map((one, i) => one - (sorted[i] as number) - 1);
  return gaps.reduce((sum, gap) => sum + (gap % SKIPPED_SEQUENCES), 0);
}

/**
 * Resolves `latest` to the end of the chain, and any other name as {@link Repository.resolve} does.
 *
 * @param now milliseconds since 1970
 * @throws SNAPSHOT_UNKNOWN; for `latest`, the error of a manifest that may be newer and cannot be used
 */
export async function resolveSnapshot(repository: Repository, name: string, now: number): Promise<Snapshot> {
  if (name !== 'latest') return repository.resolve(name);
  const list = await repository.snapshots();
  refuseLostEnd(repository, list);
  // An import is an old backup: it is the latest only if there is nothing else.
  const newest = list.snapshots.find(({ manifest }) => !storesPast(manifest.trigger)) ?? list.snapshots[0];
  const unread = await unreadAfter(repository, list, newest?.manifest, now);
  if (unread) throw unread.error;
  return newest ?? repository.resolve(name);
}
