import { type ErrorInfo, errorInfo } from '../../base/errors.ts';
import { isFuture } from '../../plan/values/clock.ts';
import type { Manifest } from '../objects/manifest.ts';
import { parseSnapshotId } from '../objects/snapshot-id.ts';
import { readPins } from './pins.ts';
import type { Repository, Snapshot, SnapshotList } from './repository.ts';
import { type Place, refuseLostEnd } from './seen-chain.ts';
import { unsigned } from './signing.ts';
import { type ReadTombstone, readTombstones, type Tombstone } from './tombstones.ts';

/** Something wrong with the documents of one snapshot. */
interface Finding {
  snapshot: string;
  error: ErrorInfo;
}

interface Link {
  id: string;
  sequence: number;
  previous: string | null;
  hash: string;
}

/**
 * Each manifest names its predecessor by hash, and has a higher number; retention leaves a tombstone for each that it takes away, so
 * that one that is missing without is seen. Numbers may be left out, and a manifest may name one before its neighbour, or none: those
 * between could not be read when it was made, see {@link nextPlace}. Each that could be read is named by the one after it.
 */
export function chainBreaks(snapshots: readonly Snapshot[], tombstones: readonly Tombstone[]): Finding[] {
  return breaksOf(chainOf(snapshots, tombstones)).map(({ link, before }) => {
    const message = `${link.id} does not follow ${before}: a manifest between them is missing or was changed`;
    return { snapshot: link.id, error: { code: 'CHAIN_BROKEN' as const, message } };
  });
}

/** The links that do not follow the one `before` them. */
function breaksOf(chain: readonly Link[]): { link: Link; before: string }[] {
  const earlier = new Set<string | null>();
  return chain.flatMap((link, i) => {
    const before = chain[i - 1] ?? { id: 'the beginning', sequence: 0 };
    const follows = before.sequence < link.sequence && (link.previous === null || earlier.has(link.previous));
    earlier.add(link.hash);
    return follows ? [] : [{ link, before: before.id }];
  });
}

function chainOf(snapshots: readonly Snapshot[], tombstones: readonly Tombstone[]): Link[] {
  const links = new Map<string, Link>();
  for (const { id, sequence, previous, sha256 } of tombstones) links.set(id, { id, sequence, previous, hash: sha256 });
  for (const { manifest, hash } of snapshots) {
    const { id, sequence, previous } = manifest;
    links.set(id, { id, sequence, previous, hash });
  }
  return [...links.values()].sort((a, b) => a.sequence - b.sequence || (a.id < b.id ? -1 : 1));
}

/**
 * The place in the chain of the manifest that is made next: after the last that can be read, or its tombstone. A number is left out for
 * each newer manifest that cannot be read: it may be mended from a copy, and two must not have the same. The new sequence is
 * also above `taken`, the highest one that another manifest may have: one that is still on its way (see lease.ts), or one that the
 * destination has lost and a copy has.
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
 * Returns the places of snapshots that the chain names and that are gone without a tombstone, for an agent that has not seen the
 * chain before. Reads every tombstone. The hash is that of the missing manifest; its id is unknown, so the snapshot after it
 * stands in the id. Next to a damaged manifest, whose hash is unknown, nothing is certain, and the result is empty.
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

/** What signatures and chain say of a project's documents. */
export interface ChainReport {
  findings: Finding[];
  signatures: {
    /** a signing key is set */
    checked: boolean;
    /** manifests that are signed; whether rightly is known only when it was checked */
    signed: number;
    /** with a key: what is from before it was set, and not signed */
    unsigned: string[];
    /** which keys signed the manifests */
    keys: string[];
  };
}

/** Looks at the chain of manifests and tombstones, and at the signatures of tombstones and pins; the manifests' own were looked at. */
export async function readChain(repository: Repository, snapshots: readonly Snapshot[]): Promise<ChainReport> {
  const findings: Finding[] = [];
  const wrong = (id: string, error: unknown) => void findings.push({ snapshot: id, error: errorInfo(error) });
  const { usable, forged } = sortOut(snapshots, await readTombstones(repository, { wrong }));
  for (const { id } of forged) wrong(id, unsigned(`the tombstone of ${id}`));
  const old = snapshots.filter((one) => one.unsigned).map(({ manifest }) => manifest.id);
  await readPins(repository, (id, verdict) => {
    if (typeof verdict !== 'string') wrong(id, verdict);
    else if (verdict === 'unsigned') old.push(`the pin of ${id}`);
  });
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

/** The first gap in the chain from that snapshot on to the newest: something that was newer than it is missing. */
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
  // Of many tombstones few are newer, by their dates. Where a clock was wrong, all of them tell.
  return (await gap(id)) && gap();
}

/**
 * A manifest that cannot be used and may be newer than that snapshot: its date says so, or the chain has no place for it among what is
 * older. A date in the future says nothing.
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
  const known = chainOf(snapshots, tombstones).filter(({ sequence }) => sequence < than.sequence);
  const places = than.sequence - 1 - new Set(known.map(({ sequence }) => sequence)).size;
  return damaged.find(isLater) ?? (older.length > places ? older[0] : undefined);
}

/**
 * Finds `latest`, the end of the chain, or what {@link Repository.resolve} does.
 *
 * @param now milliseconds since 1970
 * @throws SNAPSHOT_UNKNOWN; for `latest` the error of a manifest that may be newer and cannot be used
 */
export async function resolveSnapshot(repository: Repository, name: string, now: number): Promise<Snapshot> {
  if (name !== 'latest') return repository.resolve(name);
  const list = await repository.snapshots();
  refuseLostEnd(repository, list);
  // An import is of long ago: it is the latest only where there is nothing else.
  const newest = list.snapshots.find(({ manifest }) => manifest.trigger !== 'import') ?? list.snapshots[0];
  const unread = await unreadAfter(repository, list, newest?.manifest, now);
  if (unread) throw unread.error;
  return newest ?? repository.resolve(name);
}

/** A tombstone without a signature explains a gap only among snapshots from before the key was set. */
function sortOut(
  snapshots: readonly Snapshot[],
  tombstones: readonly ReadTombstone[],
): { usable: ReadTombstone[]; forged: ReadTombstone[] } {
  const signed = [
    ...snapshots.filter((one) => !one.unsigned).map(({ manifest }) => manifest),
    ...tombstones.filter(({ verdict }) => verdict === 'signed'),
  ];
  const first = Math.min(...signed.map(({ sequence }) => sequence));
  const forged = tombstones.filter(({ verdict, sequence }) => verdict === 'unsigned' && sequence >= first);
  return { usable: tombstones.filter((one) => !forged.includes(one)), forged };
}
