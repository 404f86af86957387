import { isRegular, type Manifest, type ManifestSource } from '../objects/manifest.ts';

/** Reads the state of a server's single databases from snapshots. No I/O. */

type StoredDatabase = NonNullable<ManifestSource['databases']>[number];

/** Returns a manifest's entry for a database. `closed`: it accepts no connections, and no setting names it. */
export function databaseEntry(of: Pick<StoredDatabase, 'name' | 'error'> & { closed?: true }): StoredDatabase {
  const { name, error, closed } = of;
  return error ? { name, status: closed ? 'closed' : 'failed', error } : { name, status: 'ok' };
}

/** Returns the databases that should be stored but are not. */
export function missingDatabases(entry: Pick<ManifestSource, 'databases'>): StoredDatabase[] {
  return (entry.databases ?? []).filter(({ status }) => status === 'failed');
}

/** Returns the databases that are not stored because they accept no connections, and that no setting names. */
export function closedDatabases(entry: Pick<ManifestSource, 'databases'>): StoredDatabase[] {
  return (entry.databases ?? []).filter(({ status }) => status === 'closed');
}

/** Returns whether a source's entry holds a database; undefined if the entry does not list its databases. */
export function holdsDatabase({ status, databases }: ManifestSource, name: string): boolean | undefined {
  if (status === 'failed') return false;
  return databases?.some((one) => one.name === name && one.status === 'ok');
}

/** Returns the newest regular snapshot that holds a database. `snapshots` are newest first. */
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
