import { isRegular, type Manifest, type ManifestSource } from '../objects/manifest.ts';

/** What the snapshots say of the single databases of a server. Pure. */

type StoredDatabase = NonNullable<ManifestSource['databases']>[number];

/** What a manifest says of a database, by what became of it; `closed`: nobody can connect to it, and nobody asked for it by name. */
export function databaseEntry(of: Pick<StoredDatabase, 'name' | 'error'> & { closed?: true }): StoredDatabase {
  const { name, error, closed } = of;
  return error ? { name, status: closed ? 'closed' : 'failed', error } : { name, status: 'ok' };
}

/** The databases that were to be stored and are not. */
export function missingDatabases(entry: Pick<ManifestSource, 'databases'>): StoredDatabase[] {
  return (entry.databases ?? []).filter(({ status }) => status === 'failed');
}

/** The databases that are not stored since nobody can connect to them, and that nobody asked for by name. */
export function closedDatabases(entry: Pick<ManifestSource, 'databases'>): StoredDatabase[] {
  return (entry.databases ?? []).filter(({ status }) => status === 'closed');
}

/** Whether the entry of a source holds a database; undefined where it does not say which ones it holds. */
export function holdsDatabase({ status, databases }: ManifestSource, name: string): boolean | undefined {
  if (status === 'failed') return false;
  return databases?.some((one) => one.name === name && one.status === 'ok');
}

/** The newest snapshot (of a list that is newest first) that holds a database, but for safety snapshots. */
export function lastWithDatabase(
  snapshots: readonly Manifest[],
  source: string,
  database: string,
): { snapshot: string; at: string; entry: ManifestSource } | undefined {
  for (const manifest of snapshots) {
    const { id, end, sources } = manifest;
    const entry = sources[source];
    if (entry && isRegular(manifest) && holdsDatabase(entry, database)) return { snapshot: id, at: end, entry };
  }
  return undefined;
}
