import { type LabelValues, ownLabels, readLabels } from './labels.ts';
import type {
  ContainerFacts,
  Hook,
  HookService,
  Mount,
  MountingContainer,
  Note,
  Problem,
  VolumeSource,
} from './model.ts';
import { uniqueSlugs } from './names.ts';
import type { Settings } from './settings.ts';
import { allDependencies } from './values/depends-on.ts';
import type { Mistake } from './values/fields.ts';
import { sharedNamespace } from './values/needs.ts';
import type { Targets } from './values/targets.ts';

/** The input of planning. */
export interface PlanInput {
  /** containers of Compose projects or with a label of Lifeboat, running or not; planning applies the scope */
  containers: readonly ContainerFacts[];
  /** the engine's other containers, of no Compose project and without a label of Lifeboat, with their mounts */
  others?: readonly MountingContainer[];
  /** the agent's own project, which snapshots belong to */
  project: string;
  settings: Settings;
  /** the agent's mounts, which show what holds the backups */
  agentMounts?: readonly Mount[];
  /** the agent's own container, whose writable mounts are for restores */
  agentId?: string;
  /** something is mounted into the agent under `/config` */
  configFiles: boolean;
  /** names of sources that are backed up already; a shared volume keeps such a name */
  known?: readonly string[];
  /** projects that restores filled as copies, see `--into-project` */
  copies?: readonly string[];
}

/** A container with its parsed labels. */
export interface Asked {
  container: ContainerFacts;
  values: LabelValues;
  mistakes: Mistake[];
}

/** The labelled containers of one Compose service. */
export interface Service {
  project: string;
  name: string;
  /** its name in problems */
  subject: string;
  containers: Asked[];
}

/** Returns true for a container of `docker compose run`, which has the labels of its service but is not the service. */
export function isOneOff(container: Pick<ContainerFacts, 'labels'>): boolean {
  return container.labels['com.docker.compose.oneoff']?.toLowerCase() === 'true';
}

/** Returns true for a container of a project that LIFEBOAT_SCOPE includes. `all` does not mean copies. */
export function isInScope(
  container: Pick<ContainerFacts, 'project'>,
  { settings: { scope }, project, copies = [] }: Pick<PlanInput, 'settings' | 'project' | 'copies'>,
): boolean {
  if (scope.kind === 'all') return !copies.includes(container.project);
  if (scope.kind === 'project') return container.project === project;
  return scope.names.includes(container.project);
}

/** Parses the labels of containers and groups the containers by service, in the order of their names. */
export function groupByService(containers: readonly ContainerFacts[], ownProject: string): Service[] {
  const groups = new Map<string, Service>();
  for (const container of containers.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const labels = ownLabels(container.labels, container.imageLabels);
    if (labels.size === 0) continue;
    const { project, service: name } = container;
    const key = JSON.stringify([project, name]);
    const subject = project === ownProject || project === '' ? name : `${project}/${name}`;
    const group = groups.get(key) ?? { project, name, subject, containers: [] };
    group.containers.push({ container, ...readLabels(labels, dependsOnDatabase(container, containers)) });
    groups.set(key, group);
  }
  for (const group of groups.values()) {
    // A stopped container of a service with running ones is left over from a recreation or from scaling down.
    const running = group.containers.filter(({ container }) => container.running);
    if (running.length > 0) group.containers = running;
  }
  return [...groups.values()];
}

/** Returns whether the service of a container depends on a service with `lifeboat.postgres`, directly or not. */
function dependsOnDatabase(container: ContainerFacts, containers: readonly ContainerFacts[]): boolean {
  const services = allDependencies(container, containers);
  const isDatabase = ({ project, service, labels, imageLabels }: ContainerFacts) =>
    project === container.project &&
    services.includes(service) &&
    ownLabels(labels, imageLabels).has('lifeboat.postgres');
  return containers.some(isDatabase);
}

/** Returns the commands of a service, and the services that it depends on. */
export function hooksOf({ container, values }: Asked, containers: readonly ContainerFacts[]): HookService {
  const user = values['lifeboat.exec.user'];
  const hook = (argv: readonly string[]): Hook => ({ argv, ...(user === undefined ? {} : { user }) });
  const [pre, post] = [values['lifeboat.exec.pre'], values['lifeboat.exec.post']];
  const [restored, health] = [values['lifeboat.exec.restored'], values['lifeboat.health']];
  const drillHealth = values['lifeboat.drill.health'];
  const dependsOn = (pre ?? post ?? restored ?? health ?? drillHealth) ? allDependencies(container, containers) : [];
  return {
    project: container.project,
    service: container.service,
    containerId: container.id,
    containerName: container.name,
    ...(pre !== undefined && container.running ? { pre: hook(pre) } : {}),
    ...(post !== undefined && container.running ? { post: hook(post) } : {}),
    ...(restored === undefined ? {} : { restored: hook(restored) }),
    ...(health === undefined ? {} : { health: typeof health === 'string' ? { url: health } : hook(health) }),
    ...(drillHealth === undefined ? {} : { drillHealth: hook(drillHealth) }),
    ...(dependsOn.length > 0 ? { dependsOn } : {}),
  };
}

/** Returns what every source of a container has. */
export function baseOf(asked: Asked, { settings, containers }: PlanInput) {
  const { container, values } = asked;
  return {
    ...hooksOf(asked, containers),
    schedule: values['lifeboat.schedule'] ?? settings.schedule,
    keep: values['lifeboat.keep'] ?? settings.keep,
    ...targetsOf(values['lifeboat.rpo'] ?? settings.rpoMs, values['lifeboat.rto'] ?? settings.rtoMs),
    ...(container.life ? { life: container.life } : {}),
  };
}

/** Returns the targets of a source, without those that are not set. */
export function targetsOf(rpoMs: number | undefined, rtoMs: number | undefined): Targets {
  return { ...(rpoMs === undefined ? {} : { rpoMs }), ...(rtoMs === undefined ? {} : { rtoMs }) };
}

/** Returns true for a service with commands and without a label that asks for a backup. */
export function hasOnlyHooks(asked: Asked): boolean {
  const { values } = asked;
  const [pre, post] = [values['lifeboat.exec.pre'], values['lifeboat.exec.post']];
  const after = values['lifeboat.exec.restored'] ?? values['lifeboat.health'] ?? values['lifeboat.drill.health'];
  return !asks(asked) && (pre ?? post ?? after) !== undefined;
}

/** Returns the first part of each service's source names, unique in its project unless `lifeboat.name` sets it. */
export function serviceSlugs(services: readonly Service[]): Map<Service, string> {
  const projects = uniqueSlugs(services.map(({ project }) => project).filter((project) => project !== ''));
  const result = new Map<Service, string>();
  for (const [project, group] of Map.groupBy(services, (service) => service.project)) {
    const slugs = uniqueSlugs(group.map(({ name }) => name));
    for (const service of group) {
      const named = service.containers.find(({ values }) => values['lifeboat.name'] !== undefined);
      const own = named?.values['lifeboat.name'] ?? slugs.get(service.name)!;
      const isForeign = service.subject !== service.name;
      result.set(service, isForeign ? `${projects.get(project)}.${own}` : own);
    }
  }
  return result;
}

/** Returns true if the container asks for a backup, even with an invalid value. */
export function asks({ mistakes, values }: Asked): boolean {
  const parents: readonly string[] = ['lifeboat.postgres', 'lifeboat.volumes'];
  return (
    Boolean(values['lifeboat.postgres'] || values['lifeboat.volumes']) ||
    mistakes.some(({ key }) => parents.includes(key))
  );
}

/** A running container that uses a namespace of a container that is stopped, directly or through other guests. */
interface Guest {
  container: ContainerFacts;
  /** what it shares with whom: `the network of shop-vpn-1` */
  shares: string;
  /** why it is not stopped with the owner; absent: it is */
  whyNot?: string;
}

/**
 * Finds the guests of containers that are about to be stopped. They are stopped and started with the owner: without a
 * restart, a guest has no network after its owner has started again.
 *
 * @param stopped ids of the containers that are stopped
 * @param never ids of containers that are never stopped, with the reason
 */
export function findGuests(
  all: readonly ContainerFacts[],
  stopped: Iterable<string>,
  never: ReadonlyMap<string, string>,
): Guest[] {
  const owners = new Map([...stopped].map((id) => [id, all.find((one) => one.id === id)]));
  const guests: Guest[] = [];
  // A map is visited in the order of insertion, so the loop also visits the guests of guests.
  for (const owner of owners.values()) {
    if (!owner) continue;
    for (const container of all) {
      const namespace = sharedNamespace(container, owner);
      if (namespace === undefined || !container.running || owners.has(container.id)) continue;
      if (guests.some((guest) => guest.container.id === container.id)) continue;
      const whyNot = whyKept(container, never);
      guests.push({ container, shares: `the ${namespace} of ${owner.name}`, ...(whyNot ? { whyNot } : {}) });
      if (!whyNot) owners.set(container.id, container);
    }
  }
  return guests;
}

function whyKept(container: ContainerFacts, never: ReadonlyMap<string, string>): string | undefined {
  if (never.has(container.id)) return never.get(container.id);
  if (container.life?.state === 'paused') return 'it is paused';
  if (container.autoRemove) return 'a stop would remove it';
  if (isTask(container)) return 'Swarm would replace it';
  return isStopForbidden(container) ? 'its label is lifeboat.stop: "false"' : undefined;
}

/** Returns true for a container of a Swarm, which starts another one as soon as this one stops. */
export function isTask({ labels }: Pick<ContainerFacts, 'labels'>): boolean {
  return 'com.docker.swarm.service.id' in labels;
}

/** Returns whether the label `lifeboat.stop` of a container excludes it from being stopped. */
export function isStopForbidden({ labels, imageLabels }: Pick<ContainerFacts, 'labels' | 'imageLabels'>): boolean {
  return /^(false|no|off|0)$/i.test(ownLabels(labels, imageLabels).get('lifeboat.stop')?.trim() ?? '');
}

/** Returns the text about a guest that is not stopped with its owner. */
export function describeKeptGuest({ container: { name }, shares, whyNot }: Guest): string {
  return `${name} uses ${shares} and is not stopped with it, because ${whyNot}; it may need a restart afterwards`;
}

/** Finds the containers that use a namespace of a container that a source stops: they stop with it, or cannot. */
export function guestsOf(
  { source, subject }: { source: VolumeSource; subject: string },
  { containers, agentId }: PlanInput,
): { problems: Problem[]; notes: Note[] } {
  const never = new Map(agentId === undefined ? [] : [[agentId, 'Lifeboat runs in it']]);
  const stopped = source.stop.map(({ id }) => id);
  const found: { problems: Problem[]; notes: Note[] } = { problems: [], notes: [] };
  for (const guest of findGuests(containers, stopped, never)) {
    if (guest.whyNot) {
      const hint = 'use lifeboat.exec.pre instead of lifeboat.stop, or let Lifeboat stop both containers';
      found.problems.push({
        ...({ severity: 'warning', code: 'LABEL_INVALID' } as const),
        ...{ subject, message: describeKeptGuest(guest), hint },
      });
    } else {
      const message = `${guest.container.name} uses ${guest.shares}, so it is stopped and started with it`;
      found.notes.push({ subject: source.name, message });
    }
  }
  return found;
}
