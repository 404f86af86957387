/** One source in a snapshot, as the retention sees it. */
export interface KeepEntry {
  status: 'ok' | 'partial' | 'failed';
  /** if the source fell, the snapshot that it was compared with */
  fellSince?: string;
  /** for a server: names of the databases that are stored, and of those that should be stored but are not */
  databases?: { stored: readonly string[]; missing: readonly string[] };
}

interface HoldsSources {
  sources: Readonly<Record<string, KeepEntry>>;
}

/**
 * Lists the databases in the newest snapshot of a server that are missing from at least one snapshot, with the
 * snapshots that hold them. The retention treats each of them like a source. All other databases are in every snapshot
 * that counts.
 *
 * @param snapshots of the server, newest first
 */
export function sometimesMissing<T extends HoldsSources>(
  snapshots: readonly T[],
  source: string,
): { database: string; holding: T[] }[] {
  const of = (snapshot: T | undefined) => snapshot?.sources[source]?.databases;
  const newest = of(snapshots[0]);
  if (!newest) return [];
  const missing = new Set(snapshots.flatMap((snapshot) => of(snapshot)?.missing ?? []));
  return [...newest.stored, ...newest.missing]
    .filter((name) => missing.has(name))
    .map((database) => ({
      database,
      holding: snapshots.filter((snapshot) => of(snapshot)?.stored.includes(database)),
    }));
}
