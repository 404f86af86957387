import { errorInfo } from '../base/errors.ts';
import type { Plan } from '../plan/model.ts';
import type { Rollback, State } from '../run/state.ts';
import { volumesOf } from './data-directory.ts';
import { type VolumeDeps, volumePlace } from './volume-place.ts';
import { knownAreas, recordPlace, recordsOf } from './volume-records.ts';
import { keptIn } from './volumes.ts';

type Records = Pick<State, 'rollbacks' | 'saveRollbacks'>;

/** Returns dependencies whose records change in memory only, for a command that must change nothing. */
export function withoutSaving<D extends { state: Records }>(deps: D): D {
  let changed: Rollback[] | undefined;
  const records: Records = {
    rollbacks: async () => changed ?? deps.state.rollbacks(),
    async saveRollbacks(rollbacks) {
      changed = [...rollbacks];
    },
  };
  return { ...deps, state: { ...deps.state, ...records } };
}

/**
 * Makes records for the old data in all volumes and data directories that no record names, because the spool was
 * lost. The caller must hold the lock. A volume that cannot be read is logged and left out.
 */
export async function recordUnrecorded(
  { plan, treeStore, agentMounts, state, log }: VolumeDeps & { plan(): Promise<Plan>; state: Records },
  run: { runId: string; signal: AbortSignal },
): Promise<void> {
  const found: Rollback[] = [];
  for (const planned of volumesOf(await plan())) {
    try {
      const all = await state.rollbacks();
      const known = knownAreas(all, planned.name);
      const areas = await keptIn(treeStore, volumePlace(planned.mount, agentMounts), run, known);
      found.push(...recordsOf(recordPlace(planned), areas, [...all, ...found]));
    } catch (error) {
      run.signal.throwIfAborted();
      log.warn('the old data in a volume could not be listed', { source: planned.name, ...errorInfo(error) });
    }
  }
  if (found.length === 0) return;
  found.sort((a, b) => (a.at < b.at ? -1 : 1));
  await state.saveRollbacks([...(await state.rollbacks()), ...found]);
}
