import type { Manifest } from '../objects/manifest.ts';
import type { PackRef } from '../packs/pack-stream.ts';

/**
 * Lets manifests have their packs in common in memory. Neighbours name nearly all the same ones: a hundred manifests of a large
 * volume would otherwise hold each a hundred times. Two that differ in anything stay apart, also under one key.
 *
 * @returns what gives a manifest those of the manifests before it; to be used for one listing
 */
export function sharePacks(): (manifest: Manifest) => void {
  const known = new Map<string, PackRef>();
  const shared = (ref: PackRef): PackRef => {
    const same = known.get(ref.key);
    if (same && isSame(same, ref)) return same;
    if (!same) known.set(ref.key, ref);
    return ref;
  };
  return ({ sources }) => {
    for (const source of Object.values(sources)) source.packs = source.packs.map(shared);
  };
}

function isSame(a: PackRef, b: PackRef): boolean {
  return (
    a.key === b.key &&
    a.size === b.size &&
    a.sha256 === b.sha256 &&
    a.id === b.id &&
    a.plainSize === b.plainSize &&
    a.keyId === b.keyId
  );
}
