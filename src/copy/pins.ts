import { deleteUnlessKept } from '../store/objects/objects.ts';
import { copyDocument } from '../store/repository/copy-objects.ts';
import { pinKey, putPin, readPins } from '../store/repository/pins.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import { placeOf } from '../store/repository/seen-chain.ts';
import { findRemoved } from '../store/repository/tombstones.ts';
import type { Side } from './context.ts';

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
export async function unpin(main: Side, to: Repository, copied: readonly Snapshot[]): Promise<void> {
  const there = new Set(main.snapshots.map(({ manifest }) => manifest.id));
  const unpinned = new Set([...(await readPins(to)).keys()].filter((id) => !main.pins.has(id)));
  const named = new Set(main.removed);
  const gone = copied.map(placeOf).filter(({ id }) => unpinned.has(id) && !there.has(id) && named.has(id));
  const removed = await findRemoved(main.repository, gone, main.snapshots);
  for (const id of unpinned)
    if (there.has(id) || removed.has(id)) await deleteUnlessKept(to.destination, pinKey(to.project, id));
}
