import type { Destination } from '../destinations/destination.ts';
import { drillPrefix } from '../store/objects/records.ts';
import { parseSnapshotId } from '../store/objects/snapshot-id.ts';
import { copyDocument } from '../store/repository/copy-objects.ts';
import type { Repository } from '../store/repository/repository.ts';

/**
 * Brings the evidence of drills to a copy, as stored. With `back`, evidence that only the copy has comes to `main`: a
 * drill stores it in a copy while the repository cannot be read. Signatures and the chain show which of it is genuine.
 *
 * @throws the errors of both destinations, but for `back` only when `main` is read
 */
export async function copyDrills(main: Repository, to: Repository, back: boolean): Promise<void> {
  const prefix = drillPrefix(to.project);
  const [here, there] = [await keysIn(main.destination, prefix), await keysIn(to.destination, prefix)];
  for (const key of here) if (!there.has(key)) await copyDocument(main.destination, to.destination, key);
  if (!back) return;
  for (const key of there) {
    // The copy is complete without it. The next run tries again.
    if (!here.has(key)) await copyDocument(to.destination, main.destination, key).catch(() => undefined);
  }
}

/** Lists evidence. Anything else there is left alone. */
async function keysIn(destination: Destination, prefix: string): Promise<Set<string>> {
  const keys = new Set<string>();
  for await (const { key } of destination.list(prefix)) {
    const name = key.slice(prefix.length);
    if (name.endsWith('.json') && parseSnapshotId(name.slice(0, -'.json'.length))) keys.add(key);
  }
  return keys;
}
