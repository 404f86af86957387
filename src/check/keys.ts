import { type Encryption, encryptionOfName } from '../plan/seal-keys.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { objectsOf } from '../store/objects/manifest.ts';
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
 * Returns the keys of a manifest's objects. The name of an object contains its encryption, and a pack's reference
 * contains the id of its keys. An index has the key of its run, which is the key of the run's new packs.
 */
function keysOf(manifest: Manifest): Map<string, Omit<NeededKey, 'snapshots'>> {
  const keys = new Map<string, Omit<NeededKey, 'snapshots'>>();
  const bare = new Set<Encryption>();
  for (const ref of objectsOf(manifest)) {
    const encryption = encryptionOfName(ref.key);
    if (encryption === undefined) continue;
    const id = 'keyId' in ref && typeof ref.keyId === 'string' ? ref.keyId : undefined;
    if (id === undefined) bare.add(encryption);
    else keys.set(`${encryption} ${id}`, { encryption, id });
  }
  for (const encryption of bare) {
    if (![...keys.values()].some((key) => key.encryption === encryption)) keys.set(encryption, { encryption });
  }
  return keys;
}
