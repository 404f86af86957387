import { deleteUnlessKept } from '../store/objects/objects.ts';
import { copyDocument } from '../store/repository/copy-objects.ts';
import { pinKey, putPin, readPins } from '../store/repository/pins.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { Side } from './steps.ts';

/** Pins the destination's pinned snapshots at a copy, as far as it has them (`have`). */
export async function copyPins(
  { repository: from, pins }: Side,
  to: Repository,
  have: ReadonlySet<string>,
): Promise<void> {
  const there = await readPins(to);
  for (const [id, pin] of pins) {
    if (!have.has(id) || there.has(id)) continue;
    // A damaged pin still keeps its snapshot.
    if (!(await copyDocument(from.destination, to.destination, pinKey(to.project, id)))) await putPin(to, id, pin);
  }
}

/**
 * Unpins the snapshots at a copy that are no longer pinned at the destination. Snapshots that the destination does not
 * know stay pinned, and so do those whose pin the copy does not let Lifeboat delete.
 */
export async function unpin({ pins, snapshots, removed }: Side, to: Repository): Promise<void> {
  const known = new Set([...snapshots.map(({ manifest }) => manifest.id), ...removed]);
  for (const id of (await readPins(to)).keys())
    if (!pins.has(id) && known.has(id)) await deleteUnlessKept(to.destination, pinKey(to.project, id));
}
