import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { readEntries } from './restore-passes.ts';

/** The file of a table without rows only marks its end, also if it is compressed; bytes. */
const EMPTY_FILE = 64;

/**
 * Returns those tables of which a dump directory has rows. A few short rows may go unnoticed.
 *
 * @param directory the dump directory
 * @throws PG_VERSION, PG_DUMP_INCOMPLETE
 */
export async function tablesWithRows<T extends { schema: string; name: string }>(
  directory: string,
  tables: readonly T[],
): Promise<T[]> {
  if (tables.length === 0) return [];
  const data = (await readEntries(directory)).filter(({ kind }) => kind === 'TABLE DATA');
  const files = await readdir(directory);
  const held: T[] = [];
  for (const table of tables) {
    const entry = data.find(({ schema, tag }) => schema === table.schema && tag === table.name);
    const file = entry && files.find((name) => name === entry.file || name.startsWith(`${entry.file}.`));
    if (file !== undefined && (await stat(path.posix.join(directory, file))).size > EMPTY_FILE) held.push(table);
  }
  return held;
}
