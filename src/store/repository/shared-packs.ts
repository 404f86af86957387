import type { Manifest } from '../objects/manifest.ts';
import type { PackRef } from '../packs/pack-stream.ts';

/**
 * Shares equal pack references between manifests, to save memory. Neighbouring manifests name nearly the same packs: a
 * hundred manifests of a large volume would otherwise hold each reference a hundred times. References that differ in
 * any field stay separate, even under the same key.
 *
 * @returns a function that replaces a manifest's references by those of earlier manifests; make one for each listing
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
