import { appendFile } from 'node:fs/promises';
import { addIndex } from '../store/known/add-index.ts';
import { ContentTable } from '../store/known/content-table.ts';
import type { KnownPacks } from '../store/known/known-packs.ts';
import { encodePackList } from '../store/objects/pack-list.ts';
import type { CommittedIndex, SharedIndex } from './context.ts';

/** The contents that a run knows. */
export interface Known {
  /** the directory of the table */
  table: string;
  /** the repository and project that it is about */
  of: string;
  /** the packs that the run may use, */
  packs: KnownPacks;
  /** and their file */
  usable: string;
}

/**
 * Lets later sources of the run use the new packs of a source. Should the run fail, the table names packs that no
 * snapshot has: nobody uses those, and they are removed with the next ones.
 */
export async function shareStored(
  { table: directory, of, packs: known, usable }: Known,
  file: string,
  { packs, renewed }: SharedIndex,
): Promise<void> {
  const fresh = packs.filter(({ id }) => !known.has(id));
  if (fresh.length === 0) return;
  const ids = new Set(fresh.map(({ id }) => id));
  // A source that renews the same packs finds their content in the new ones.
  const isKept = (pack: string) => ids.has(pack) || (known.has(pack) && !renewed.has(pack));
  const table = await ContentTable.write(directory, of);
  try {
    await addIndex(table, file, { isWanted: (pack) => ids.has(pack), isKept });
  } finally {
    await table.close();
  }
  await appendFile(usable, encodePackList(fresh));
  for (const id of ids) known.add(id);
}

/** Adds the contents of a committed index: only those in new packs, if the table has the others. */
export async function addCommitted(
  { table: directory, of, packs: known }: Known,
  file: string,
  { sha256, packs, isBasedOnTable }: CommittedIndex,
): Promise<void> {
  const table = await ContentTable.write(directory, of);
  try {
    const wanted = packs.filter(({ id }) => !isBasedOnTable || !known.has(id));
    const ids = new Set(wanted.map(({ id }) => id));
    const isNew = (pack: string) => ids.has(pack);
    if (ids.size > 0) await addIndex(table, file, { isWanted: isNew, isKept: isNew });
    table.cover(sha256);
  } finally {
    await table.close();
  }
}
