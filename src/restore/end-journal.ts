import { openVolumes } from '../kept/undo-volumes.ts';
import { openDatabases } from '../kept/working-databases.ts';
import type { Journal } from '../run/journal.ts';
import { openHolds } from '../run/release.ts';

/**
 * Ends the journals of a restore or rollback. If work is still open, because a helper or a server is gone, recovery
 * tries once more to undo it. The failure is reported already.
 *
 * @param journals those of the sources, then that of the group if there is one
 */
export async function endJournals(deps: { recover(): Promise<void> }, journals: readonly Journal[]): Promise<void> {
  const open: Journal[] = [];
  for (const journal of journals) {
    if (await hasOpenWork(journal)) open.push(journal);
    else await journal.close();
  }
  if (open.length === 0) return;
  // One recovery reads all of them, removes those that it completes, and must not report them as dead.
  for (const journal of open) journal.record({ type: 'reported' });
  await deps.recover();
}

async function hasOpenWork(journal: Journal): Promise<boolean> {
  const entries = await journal.entries();
  return openDatabases(entries).size + openHolds(entries).length + openVolumes(entries).length > 0;
}
