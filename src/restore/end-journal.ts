import { openVolumes } from '../kept/volumes.ts';
import { openDatabases } from '../kept/working-databases.ts';
import type { Journal } from '../run/journal.ts';
import { openHolds } from '../run/release.ts';

/**
 * Ends the journal of a restore or rollback. If work is still open, because a helper or a server is gone, recovery tries once more to
 * undo it. The failure is reported already.
 */
export async function endJournal(deps: { recover(): Promise<void> }, journal: Journal): Promise<void> {
  const entries = await journal.entries();
  const open = openDatabases(entries).size + openHolds(entries).length + openVolumes(entries).length;
  if (open === 0) return journal.close();
  journal.record({ type: 'reported' });
  await deps.recover();
}
