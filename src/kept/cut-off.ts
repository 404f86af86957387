import type { Mount } from '../plan/model.ts';
import { appendJournal, openJournals, readJournal } from '../run/journal.ts';
import type { Rollback } from '../run/state.ts';
import type { TreeStore } from '../trees/runner.ts';
import { halfSwapped } from './undo-volumes.ts';
import { type VolumePlace, volumePlace } from './volume-place.ts';
import { keptAreaOf } from './volume-records.ts';
import { keptIn } from './volumes.ts';

/** A swap that was cut off and could not be reversed, and whose area is not in the volume. */
interface LostSwap {
  /** why the area is not found, see `VolumeArea` */
  missing: 'area' | 'volume';
  /** Records that a person takes the volume as it is, although it may hold a mixture. */
  accept(): void;
}

interface LostSwapDeps {
  journals: string;
  agentMounts: readonly Mount[];
  treeStore: TreeStore;
}

/**
 * Finds the swap of a restore, or of a rollback of it, that was cut off and that Lifeboat cannot reverse, because the
 * moved data is lost. Returns undefined if there is none, or if Lifeboat may still reverse it.
 */
export async function findLostSwap(
  { journals, agentMounts, treeStore }: LostSwapDeps,
  { id: restore }: Rollback,
  run: { runId: string; signal: AbortSignal },
): Promise<LostSwap | undefined> {
  for (const file of await openJournals(journals)) {
    const entries = await readJournal(file);
    const from = entries.find((entry) => entry.type === 'begun')?.from?.id;
    for (const open of halfSwapped(entries)) {
      if (restore !== (from ?? open.id)) continue;
      const place: VolumePlace = open.mount ? volumePlace(open.mount, agentMounts) : open;
      const known = keptAreaOf(entries, open.id);
      const areas = known ? await keptIn(treeStore, place, run, [known]) : [];
      const missing = areas.find(({ kind, id }) => kind === 'before' && id === open.id)?.missing;
      if (missing) return { missing, accept: () => appendJournal(file, { type: 'volume-done', id: open.id }) };
    }
  }
  return undefined;
}
