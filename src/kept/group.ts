import { type JournalEntry, openJournals, readJournal } from '../run/journal.ts';
import { halfSwapped } from './undo-volumes.ts';

/**
 * Returns whether a volume of the same restore or rollback of all sources is neither old nor new. Recovery reads the
 * journals of the sources first, then that of the group, which records the stops.
 */
export async function isGroupHalf(journals: string, own: string): Promise<boolean> {
  const groupOf = (entries: readonly JournalEntry[]) =>
    entries.flatMap((entry) => (entry.type === 'start' && entry.verb === 'restore' ? [entry.group] : []))[0];
  const group = groupOf(await readJournal(own));
  if (group === undefined) return false;
  for (const file of await openJournals(journals)) {
    const entries = await readJournal(file);
    if (groupOf(entries) === group && halfSwapped(entries).length > 0) return true;
  }
  return false;
}
