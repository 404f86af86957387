/** One source in a snapshot, as the retention sees it. */
export interface KeepEntry {
  status: 'ok' | 'partial' | 'failed';
  /** if the source fell, the snapshot that it was compared with */
  fellSince?: string;
  /** for a server: names of the databases that are stored, and of those that should be stored but are not */
  databases?: { stored: readonly string[]; missing: readonly string[] };
  /** for a base backup: where the server was when it began and ended */
  base?: KeepBase;
}

interface KeepBase {
  systemId: string;
  /** number of the first page of the history that the server wrote; absent in older records */
  era?: number;
  timeline: number;
  /** positions in the write-ahead log */
  start: bigint;
  stop: bigint;
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

/**
 * Returns the base backups from which a recovery may reach the data of the newest one. After a recovery to an earlier
 * point, those behind that point do not lead there: the first base backup of the new timeline begins before they end.
 *
 * @param snapshots of the base backups, newest first
 */
export function leadingHere<T extends HoldsSources>(snapshots: readonly T[], source: string): T[] {
  const of = (snapshot: T | undefined) => snapshot?.sources[source]?.base;
  const newest = of(snapshots[0]);
  if (!newest) return [...snapshots];
  return snapshots.filter((snapshot, i) => {
    const base = of(snapshot);
    if (!base) return true;
    const isOther = (base.era ?? newest.era) !== (newest.era ?? base.era) || base.systemId !== newest.systemId;
    if (isOther || base.timeline > newest.timeline) return false;
    return snapshots.slice(0, i).every((later) => {
      const { timeline = 0, start = 0n, systemId } = of(later) ?? {};
      const isAfter = systemId === base.systemId && timeline > base.timeline && timeline <= newest.timeline;
      return !isAfter || base.stop <= start;
    });
  });
}
