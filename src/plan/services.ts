import { type LabelValues, ownLabels, readLabels } from './labels.ts';
import type { ContainerFacts, Mount, MountingContainer } from './model.ts';
import { uniqueSlugs } from './names.ts';
import type { Settings } from './settings.ts';
import type { Mistake } from './values/fields.ts';

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

/** Returns true for a container of a project that LIFEBOAT_SCOPE includes. */
export function isInScope(container: ContainerFacts, { settings: { scope }, project }: PlanInput): boolean {
  if (scope.kind === 'all') return true;
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
    group.containers.push({ container, ...readLabels(labels) });
    groups.set(key, group);
  }
  for (const group of groups.values()) {
    // A stopped container of a service with running ones is left over from a recreation or from scaling down.
    const running = group.containers.filter(({ container }) => container.running);
    if (running.length > 0) group.containers = running;
  }
  return [...groups.values()];
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
