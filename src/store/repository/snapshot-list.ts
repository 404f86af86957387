import { type ErrorCode, hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Snapshot, SnapshotList } from './repository.ts';
import { unsigned } from './signing.ts';

const ABOUT_MANIFEST: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'OBJECT_DAMAGED',
  'OBJECT_ARCHIVED',
  'FORMAT_UNSUPPORTED',
  'SIGNATURE_MISSING',
  'SIGNATURE_WRONG',
  'SIGNATURE_KEY',
  'CHAIN_BROKEN',
]);

/** Returns true for an error that concerns the manifest that was read or its permissions, and not the destination. */
export function isAboutManifest(error: unknown): error is LifeboatError {
  if (!(error instanceof LifeboatError)) return false;
  return ABOUT_MANIFEST.has(error.code) || hasErrno(error.cause, 'EACCES', 'EPERM');
}

/** Returns true for an error that shows that a manifest is damaged or not trusted, and not only unreadable for now. */
export function isCertainlyUnreadable({ code, cause }: LifeboatError): boolean {
  if (code === 'OBJECT_ARCHIVED' || code === 'FORMAT_UNSUPPORTED') return false;
  return ABOUT_MANIFEST.has(code) && !hasErrno(cause, 'EACCES', 'EPERM');
}

/**
 * Compares snapshots by their place in the chain, regardless of dates. Equal sequences occur only in a broken chain.
 */
export function newestFirst({ manifest: a }: Snapshot, { manifest: b }: Snapshot): number {
  return b.sequence - a.sequence || (a.id < b.id ? 1 : -1);
}

/**
 * Moves forged snapshots to the damaged ones. An unsigned manifest is forged unless it is older than all signed ones.
 * One with an older place but a newer date is forged too, unless the signed manifests name it by its hash: in that case
 * a clock was ahead before the key was set.
 *
 * @param list a list whose snapshots are newest first
 */
export function withoutIntruders({ snapshots, damaged }: SnapshotList): SnapshotList {
  const signed = snapshots.filter((one) => !one.unsigned);
  const first = Math.min(...signed.map(({ manifest }) => manifest.sequence));
  const oldest = signed.at(-1)?.manifest.id ?? '';
  const named = new Set(signed.map(({ manifest }) => manifest.previous));
  const intruders = snapshots.filter(({ manifest, hash, unsigned: isUnsigned }) => {
    if (!isUnsigned || signed.length === 0) return false;
    if (named.has(hash)) named.add(manifest.previous);
    return manifest.sequence >= first || (manifest.id > oldest && !named.has(hash));
  });
  return {
    snapshots: snapshots.filter((one) => !intruders.includes(one)),
    damaged: [
      ...damaged,
      ...intruders.map(({ manifest: { id } }) => ({ id, error: unsigned(`the manifest of ${id}`) })),
    ],
  };
}
