import { openVolumes } from '../kept/volumes.ts';
import { openDatabases } from '../kept/working-databases.ts';
import { type Journal, readJournal } from '../run/journal.ts';
import { openHolds } from '../run/release.ts';

/**
 * Ends the journal of a restore or rollback. What could not be undone from here, because a helper or a server is gone, gets
 * one more try; it was told of by whoever failed.
 */
export async function endJournal(deps: { recover(): Promise<void> }, journal: Journal): Promise<void> {
  const entries = await readJournal(journal.file);
  const open = openDatabases(entries).size + openHolds(entries).length + openVolumes(entries).length;
  if (open === 0) return journal.close();
  journal.record({ type: 'reported' });
  await deps.recover();
}
