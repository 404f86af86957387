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

/** True for what is wrong with the one manifest that was read, or its rights, rather than with the way to it. */
export function isAboutManifest(error: unknown): error is LifeboatError {
  if (!(error instanceof LifeboatError)) return false;
  return ABOUT_MANIFEST.has(error.code) || hasErrno(error.cause, 'EACCES', 'EPERM');
}

/** The order of the chain, whatever the dates say. Two of one sequence are of a chain that is broken. */
export function newestFirst({ manifest: a }: Snapshot, { manifest: b }: Snapshot): number {
  return b.sequence - a.sequence || (a.id < b.id ? 1 : -1);
}

/**
 * What is not signed and not older than all that is was put there by somebody without the key. One of an older place with a newer
 * date was too, unless the signed ones name it by its hash: then a clock was ahead before the key was set.
 *
 * @param list its snapshots newest first
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
