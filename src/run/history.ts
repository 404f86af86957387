import { type Accepted, isAccepted } from '../plan/accepted.ts';
import type { Plan } from '../plan/model.ts';
import type { LastGoodReport, SourceReport } from '../report/events.ts';
import { isRegular, type Manifest, type ManifestSource } from '../store/objects/manifest.ts';

/** An entry of a source, with the snapshot it stands in. */
export interface LastGood {
  snapshot: string;
  at: string;
  entry: ManifestSource;
}

/**
 * The last good entry of a source in snapshots (newest first): of one that was always stored in part, the newest there is. A
 * safety snapshot and an import do not count, see {@link isRegular}.
 */
export function lastGoodOf(snapshots: readonly Manifest[], source: string): LastGood | undefined {
  return newestOf(snapshots, source, ['ok']) ?? lastStoredOf(snapshots, source);
}

/** The same as reports and `--json` carry it. */
export function lastGoodReport({ snapshot, at, entry }: LastGood): LastGoodReport {
  return { snapshot, at, ...(entry.status === 'partial' ? { partial: true as const } : {}) };
}

/** The same, but the newest even if a part of it could not be read: what the next tree is compared with. */
export function lastStoredOf(snapshots: readonly Manifest[], source: string): LastGood | undefined {
  return newestOf(snapshots, source, ['ok', 'partial']);
}

function newestOf(
  snapshots: readonly Manifest[],
  source: string,
  statuses: readonly ManifestSource['status'][],
): LastGood | undefined {
  for (const manifest of snapshots) {
    const { id, end, sources } = manifest;
    const entry = sources[source];
    if (entry && statuses.includes(entry.status) && isRegular(manifest)) return { snapshot: id, at: end, entry };
  }
  return undefined;
}

/**
 * Sources that snapshots (newest first) speak of but the plan does not: they vanished. One that a person accepted
 * after its last backup is left out.
 */
export function vanishedSources(
  snapshots: readonly Manifest[],
  plan: Plan,
  accepted: Accepted,
): { name: string; kind: SourceReport['kind']; lastGood?: LastGood }[] {
  const known = new Map<string, ManifestSource>();
  for (const { sources } of snapshots) {
    for (const [name, entry] of Object.entries(sources)) if (!known.has(name)) known.set(name, entry);
  }
  // A volume that several services share is stored under one of their names.
  for (const name of [...plan.sources.map((source) => source.name), ...Object.keys(plan.shared ?? {})])
    known.delete(name);
  return [...known].flatMap(([name, { kind }]) => {
    const lastGood = lastGoodOf(snapshots, name);
    const lastStored = snapshots.find(({ id }) => id === lastStoredOf(snapshots, name)?.snapshot);
    const acceptance = accepted[name];
    if (acceptance && (lastStored === undefined || isAccepted(acceptance, lastStored))) return [];
    return [lastGood ? { name, kind, lastGood } : { name, kind }];
  });
}
