import { type JournalEntry, openJournals, readJournal } from '../run/journal.ts';
import type { Rollback } from '../run/state.ts';
import type { Wanted } from './choose.ts';
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

/**
 * Returns the restores of all sources that a rollback means: by the id of the group. Without an id, the newest restore
 * counts, unless one of its sources was rolled back alone: then the command reverses that.
 */
export function groupOf(all: readonly Rollback[], { id, source }: Wanted): string | undefined {
  if (source !== undefined) return undefined;
  if (id === undefined) {
    const newest = all.at(-1)?.group;
    const members = all.filter(({ group }) => group === newest);
    return new Set(members.map(({ inUse }) => inUse)).size === 1 ? newest : undefined;
  }
  if (all.some((one) => one.id.startsWith(id))) return undefined;
  const groups = new Set(all.flatMap(({ group }) => (group?.startsWith(id) ? [group] : [])));
  return groups.size === 1 ? [...groups][0] : undefined;
}
