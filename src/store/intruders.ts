import type { LifeboatError } from '../errors.ts';
import type { Manifest } from './manifest.ts';
import { unsigned } from './signing.ts';

interface Signed {
  manifest: Manifest;
  unsigned?: true;
}

/** Newest first. */
interface List<T> {
  snapshots: T[];
  damaged: { id: string; error: LifeboatError }[];
}

/** What is not signed and not older than all that is was put there by somebody without the key. */
export function withoutIntruders<T extends Signed>({ snapshots, damaged }: List<T>): List<T> {
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
