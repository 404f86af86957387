import { type Encryption, encryptionOfName } from '../plan/seal-keys.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { objectsOf } from '../store/objects/manifest.ts';
import type { Snapshot } from '../store/repository/repository.ts';

/** A key that snapshots need, to be restored whole. */
export interface NeededKey {
  encryption: Encryption;
  /** names the keys that the content was encrypted with; absent where a snapshot has no content */
  id?: string;
  /** ids, newest first */
  snapshots: string[];
}

/** Which keys the snapshots need, by what the manifests say: no key is asked for. Those that lie in the clear need none. */
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

/** Each object names its form of encryption, and each pack its key. An index has the key of its run, and so of its new packs. */
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
