/** What a snapshot holds of one source. */
export interface KeepEntry {
  status: 'ok' | 'partial' | 'failed';
  /** the snapshot that the source was compared with when it was found to have fallen */
  fellSince?: string;
  /** of a server: the names of the databases that are stored, and of those that should be and are not */
  databases?: { stored: readonly string[]; missing: readonly string[] };
}

interface HoldsSources {
  sources: Readonly<Record<string, KeepEntry>>;
}

/**
 * The databases of a server that its newest snapshot speaks of and that some snapshot should hold and does not, with the
 * snapshots that hold them. Each is kept as a source of its own would be. All others are in every snapshot that counts.
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
