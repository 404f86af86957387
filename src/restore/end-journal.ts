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
    if (!(await hasOpenWork(journal))) {
      await journal.close();
      continue;
    }
    // Recovery must not report it as dead. The journal of the group, which also says so, is still there.
    journal.record({ type: 'reported' });
    open.push(journal);
  }
  if (open.length === 0) return;
  // One recovery reads all of them, and removes those that it completes.
  await deps.recover();
}

async function hasOpenWork(journal: Journal): Promise<boolean> {
  const entries = await journal.entries();
  return openDatabases(entries).size + openHolds(entries).length + openVolumes(entries).length > 0;
}
