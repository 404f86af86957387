import type { HookService, PlannedSource } from '../plan/model.ts';
import type { Hold } from '../run/hold.ts';

/** Sources that share one hold of their container, which is stopped once for all its volumes. */
export interface HoldGroup {
  hold?: Hold;
  sources: PlannedSource[];
  /** without own sources in the run: the service whose hooks surround those of others */
  service?: HookService;
}

/** Groups that are captured one after the other while hooks surround all of them. */
export interface Freeze {
  /** `hold`: only the commands, because stops stay with the groups; `group`: the group that fails if `pre` fails */
  hooks: { hold: Hold; group: HoldGroup }[];
  groups: HoldGroup[];
}

/**
 * Joins each group that has hooks with the databases that its service depends on. A command that puts an application
 * into maintenance then runs before the dump of its database, and the command that ends maintenance runs after the last
 * of its volumes.
 *
 * Databases that no hook surrounds come first, then those with hooks, then everything else: rows refer to files, so a
 * file is stored after the row that names it.
 *
 * @param chosen databases first, as `groupByHold` returns them
 * @param services all services with hooks. They surround a database whichever sources the run backs up
 */
export function joinFreezes(chosen: readonly HoldGroup[], services: readonly HookService[] = []): Freeze[] {
  const groups = [...chosen, ...otherServices(chosen, services)];
  const first = groups.map((_, i) => i);
  const surrounding = new Set<number>();
  for (const [i, group] of groups.entries()) {
    if (!group.hold?.pre && !group.hold?.post) continue;
    for (const [j, other] of groups.entries()) {
      if (i === j || !dependsOn(group, other)) continue;
      surrounding.add(i);
      const [from, to] = [first[j], first[i] as number];
      for (const [k, one] of first.entries()) if (one === from) first[k] = to;
    }
  }
  const inner = groups.map((group, i) => (surrounding.has(i) ? withoutHooks(group) : group));
  const joined = Map.groupBy(groups.keys(), (i) => first[i]);
  const freezes = [...joined.values()].map((indexes): Freeze => {
    const hooks = indexes.flatMap((i) => {
      const hold = groups[i]?.hold;
      return hold && surrounding.has(i) ? [{ hold: { ...hold, stop: [] }, group: inner[i] as HoldGroup }] : [];
    });
    const own = indexes.map((i) => inner[i] as HoldGroup).filter(({ sources }) => sources.length > 0);
    return { hooks, groups: own };
  });
  return freezes.sort((a, b) => rankOf(a) - rankOf(b));
}

/** Returns groups for the services that surround a chosen database, and have no chosen source of their own. */
function otherServices(chosen: readonly HoldGroup[], services: readonly HookService[]): HoldGroup[] {
  const known = new Set(chosen.flatMap(({ hold }) => (hold ? [hold.container.id] : [])));
  const groups: HoldGroup[] = [];
  for (const service of services) {
    const { pre, post, containerId: id, containerName: name } = service;
    if ((!pre && !post) || known.has(id)) continue;
    known.add(id);
    const container = { id, name, project: service.project, service: service.service };
    const hold = { container, stop: [], ...(pre ? { pre } : {}), ...(post ? { post } : {}) };
    const group = { hold, sources: [], service };
    if (chosen.some((other) => dependsOn(group, other))) groups.push(group);
  }
  return groups;
}

/** Returns whether the service of one group depends on a database of another one. */
function dependsOn({ sources, service }: HoldGroup, other: HoldGroup): boolean {
  const own: readonly HookService[] = service ? [service] : sources;
  return own.some(({ dependsOn: services = [], project }) =>
    other.sources.some((one) => one.kind === 'postgres' && one.project === project && services.includes(one.service)),
  );
}

function withoutHooks({ hold, sources }: HoldGroup): HoldGroup {
  if (!hold || hold.stop.length === 0) return { sources };
  const { pre: _, post: __, ...stops } = hold;
  return { hold: stops, sources };
}

function rankOf({ hooks, groups }: Freeze): number {
  if (hooks.length > 0) return 1;
  return groups[0]?.sources[0]?.kind === 'postgres' ? 0 : 2;
}
