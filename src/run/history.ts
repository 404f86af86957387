import { type Accepted, coversLoss, isAccepted } from '../plan/accepted.ts';
import type { Plan, PlannedSource, StoppedDatabase } from '../plan/model.ts';
import { placeOfSource } from '../plan/mounts.ts';
import type { SourceReport } from '../report/events.ts';
import type { LastGoodReport } from '../report/last-good.ts';
import { isRegular, type Manifest, type ManifestSource } from '../store/objects/manifest.ts';

/** A manifest entry of a source, with its snapshot. */
export interface LastGood {
  snapshot: string;
  at: string;
  entry: ManifestSource;
}

/**
 * Returns the last good entry of a source in snapshots (newest first), or the newest partial one if none is good.
 * Safety snapshots and imports do not count, see {@link isRegular}.
 */
export function lastGoodOf(snapshots: readonly Manifest[], source: string): LastGood | undefined {
  return newestOf(snapshots, source, ['ok']) ?? lastStoredOf(snapshots, source);
}

/** Converts a last good entry to the form of reports and `--json`. */
export function lastGoodReport({ snapshot, at, entry }: LastGood): LastGoodReport {
  return { snapshot, at, ...(entry.status === 'partial' ? { partial: true as const } : {}) };
}

/** Returns the newest stored entry, good or partial, which the next tree is compared with. */
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

/** Returns the name under which the newest snapshot (newest first) holds a source that could have several names. */
export function lastNameOf(snapshots: readonly Manifest[], names: readonly string[]): string | undefined {
  for (const manifest of snapshots) {
    const found = names.find((name) => lastStoredOf([manifest], name) !== undefined);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** A source that snapshots hold and the plan lacks. */
export interface VanishedSource {
  name: string;
  kind: SourceReport['kind'];
  lastGood?: LastGood;
  /** the container of a database that exists and does not run */
  stopped?: StoppedDatabase;
  /**
   * A planned source whose data is at the same place, and that place: the service may have a new name. The volume may
   * have been created again, so this does not show whether the data is still there. `label`: the value of
   * `lifeboat.name` that continues the history and changes no other history of the service.
   */
  renamed?: { to: string; place: string; label?: string };
}

/**
 * Returns the vanished sources: snapshots (newest first) name them and the plan does not. Omits a source that a person
 * accepted after its last backup.
 *
 * @param places where the data of each source was at its last backup, as far as it is known
 */
export function vanishedSources(
  snapshots: readonly Manifest[],
  plan: Plan,
  { accepted, places = {} }: { accepted: Accepted; places?: Readonly<Record<string, string>> },
): VanishedSource[] {
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
    if (coversLoss(acceptance, 'gone') && (lastStored === undefined || isAccepted(acceptance, lastStored))) return [];
    const stopped = plan.stopped?.[name];
    const place = places[name];
    const same = plan.sources.find((one) => one.kind === kind && place !== undefined && placeOfSource(one) === place);
    return [
      {
        ...{ name, kind },
        ...(lastGood ? { lastGood } : {}),
        ...(stopped === undefined ? {} : { stopped }),
        ...(same && place !== undefined ? { renamed: { to: same.name, place, ...labelFor(name, same) } } : {}),
      },
    ];
  });

  /** Compares names without the part that `lifeboat.name` sets, which is the one before the last. */
  function labelFor(old: string, now: PlannedSource): { label?: string } {
    const [former, present] = [partsOf(old), partsOf(now.name)];
    const isSame = former.project === present.project && former.last === present.last;
    if (former.service === undefined || former.service === present.service || !isSame) return {};
    const { project, service } = former;
    const isHarmless = (other: PlannedSource) => {
      const parts = partsOf(other.name);
      if (parts.project !== project) return true;
      if (parts.service !== present.service) return parts.service !== service;
      const formerName = `${old.slice(0, old.length - former.last.length)}${parts.last}`;
      const hasMoved = places[formerName] !== undefined && places[formerName] === placeOfSource(other);
      return hasMoved || ![formerName, other.name].some((one) => lastStoredOf(snapshots, one));
    };
    return plan.sources.every((other) => other === now || isHarmless(other)) ? { label: service } : {};
  }
}

/** Returns the project of a source of another project; undefined for one of the agent's own. Not for base backups. */
export function projectOfSource(name: string): string | undefined {
  return partsOf(name).project;
}

/** Splits a name: `web.media`, `db.postgres`, or `blog.web.media` of another project. */
function partsOf(name: string): { project?: string; service?: string; last: string } {
  const [last = '', service, project] = name.split('.').reverse();
  return { last, ...(service === undefined ? {} : { service }), ...(project === undefined ? {} : { project }) };
}
