import { openVolumes } from '../kept/undo-volumes.ts';
import { openDatabases } from '../kept/working-databases.ts';
import type { Journal, JournalEntry } from '../run/journal.ts';
import { openHolds } from '../run/release.ts';

/**
 * Ends the journals of a restore or rollback. If work is still open, because a helper or a server is gone, recovery
 * tries once more to undo it. The failure is reported already. After an interrupt, the next recovery computes what
 * depends on the names of databases: that may take half an hour, and nobody waits for it.
 *
 * @param journals those of the sources, then that of the group if there is one
 */
export async function endJournals(
  deps: { recover(): Promise<void> },
  journals: readonly Journal[],
  { aborted }: Pick<AbortSignal, 'aborted'>,
): Promise<void> {
  const open: Journal[] = [];
  let isUrgent = !aborted;
  for (const journal of journals) {
    const work = openWork(await journal.entries());
    if (work === 'none') {
      await journal.close();
      continue;
    }
    // Recovery must not report it as dead. The journal of the group, which also says so, is still there.
    journal.record({ type: 'reported' });
    open.push(journal);
    if (work === 'any') isUrgent = true;
  }
  if (open.length === 0 || !isUrgent) return;
  // One recovery reads all of them, and removes those that it completes.
  await deps.recover();
}

function openWork(entries: readonly JournalEntry[]): 'none' | 'dependents' | 'any' {
  const databases = [...openDatabases(entries).values()];
  const isAny = databases.some(({ working }) => working.length > 0);
  if (isAny || openHolds(entries).length + openVolumes(entries).length > 0) return 'any';
  return databases.length > 0 ? 'dependents' : 'none';
}
