import { type ErrorCode, hasErrno, LifeboatError } from '../errors.ts';
import type { SnapshotList } from './repository.ts';
import { unsigned } from './signing.ts';

const ABOUT_MANIFEST: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'OBJECT_DAMAGED',
  'OBJECT_ARCHIVED',
  'FORMAT_UNSUPPORTED',
  'SIGNATURE_MISSING',
  'SIGNATURE_WRONG',
  'SIGNATURE_KEY',
]);

/** True for what is wrong with the one manifest that was read, or its rights, rather than with the way to it. */
export function isAboutManifest(error: unknown): error is LifeboatError {
  if (!(error instanceof LifeboatError)) return false;
  return ABOUT_MANIFEST.has(error.code) || hasErrno(error.cause, 'EACCES', 'EPERM');
}

/** What is not signed and not older than all that is was put there by somebody without the key. */
export function withoutIntruders({ snapshots, damaged }: SnapshotList): SnapshotList {
  const signed = snapshots.filter((one) => !one.unsigned);
  const first = Math.min(...signed.map(({ manifest }) => manifest.sequence));
  const oldest = signed.at(-1)?.manifest.id ?? '';
  const intruders = snapshots.filter(
    ({ manifest, ...one }) => one.unsigned && signed.length > 0 && (manifest.sequence >= first || manifest.id > oldest),
  );
  return {
    snapshots: snapshots.filter((one) => !intruders.includes(one)),
    damaged: [
      ...damaged,
      ...intruders.map(({ manifest: { id } }) => ({ id, error: unsigned(`the manifest of ${id}`) })),
    ],
  };
}
