import { type Encryption, encryptionOfName } from '../plan/seal-keys.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import type { Snapshot } from '../store/repository/repository.ts';

/** A key that is needed to restore snapshots completely. */
export interface NeededKey {
  encryption: Encryption;
  /** id of the keys that encrypted the content; absent if a snapshot has no content */
  id?: string;
  /** ids, newest first */
  snapshots: string[];
}

/** Returns the keys that the snapshots need, as their manifests say. Uses no key. Unencrypted snapshots need none. */
export function neededKeys(snapshots: readonly Snapshot[]): NeededKey[] {
  const needed = new Map<string, NeededKey>();
  for (const { manifest } of snapshots) {
    for (const [name, key] of keysOf(manifest)) {
      const known = needed.get(name) ?? { ...key, snapshots: [] };
      known.snapshots.push(manifest.id);
      needed.set(name, known);
    }
  }
  return [...needed.values()];
}

/**
 * Returns the keys of a manifest's objects. The name of an index contains its encryption. The reference to a list of
 * packs contains the id of their keys, which are also the keys of the index.
 */
function keysOf(manifest: Manifest): Map<string, Omit<NeededKey, 'snapshots'>> {
  const keys = new Map<string, Omit<NeededKey, 'snapshots'>>();
  const bare = new Set<Encryption>();
  for (const { index, packs } of Object.values(manifest.sources)) {
    const encryption = index && encryptionOfName(index.key);
    if (encryption === undefined) continue;
    const id = packs?.keyId;
    if (id === undefined) bare.add(encryption);
    else keys.set(`${encryption} ${id}`, { encryption, id });
  }
  for (const encryption of bare) {
    if (![...keys.values()].some((key) => key.encryption === encryption)) keys.set(encryption, { encryption });
  }
  return keys;
}
