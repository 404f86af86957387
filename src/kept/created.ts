import type { RestoredItem } from '../report/events.ts';
import type { Rollback, State } from '../run/state.ts';

/**
 * Restored data that replaced nothing: a database that was gone, a volume that was empty. Nothing is put aside for it,
 * so a rollback leaves it, and says so.
 */

/**
 * Adds the names of data that replaced nothing to the records of a restore.
 *
 * @param id of the restore, or of its group
 */
export async function recordCreated(
  state: Pick<State, 'rollbacks' | 'saveRollbacks'>,
  id: string,
  restored: readonly RestoredItem[],
): Promise<void> {
  const created = restored.flatMap(({ target, kept }) => (kept === undefined ? [target] : []));
  if (created.length === 0) return;
  const all = await state.rollbacks();
  const isPart = (one: Rollback) => one.id === id || one.group === id;
  if (!all.some(isPart)) return;
  await state.saveRollbacks(all.map((one) => (isPart(one) ? { ...one, created } : one)));
}

/** Returns a note for each name that a rollback of these records leaves as it is. */
export function createdNotes(records: readonly Rollback[]): string[] {
  const created = records.flatMap((one) => (one.inUse === 'restored' ? (one.created ?? []) : []));
  return [...new Set(created)].map(
    (name) => `${name} keeps the restored data: it held nothing before the restore, so there is nothing to bring back`,
  );
}
