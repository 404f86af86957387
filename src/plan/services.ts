import { type LabelValues, ownLabels, readLabels } from './labels.ts';
import type { ContainerFacts, Mount } from './model.ts';
import { uniqueSlugs } from './names.ts';
import type { Settings } from './settings.ts';
import type { Mistake } from './values/fields.ts';

/** Everything that planning looks at. */
export interface PlanInput {
  /** all containers of the engine, running or not; the scope is applied here */
  containers: readonly ContainerFacts[];
  /** the agent's own project: snapshots belong to it */
  project: string;
  settings: Settings;
  /** the agent's mounts: tells which volume holds the backups, so that it is not backed up into itself */
  agentMounts?: readonly Mount[];
  /** the agent's own container: a writable mount there is for restores */
  agentId?: string;
  /** something is mounted into the agent under `/config` */
  configFiles: boolean;
  /** names of sources that are backed up already: a volume that several services share keeps its name */
  known?: readonly string[];
}

/** A labelled container, read. */
export interface Asked {
  container: ContainerFacts;
  values: LabelValues;
  mistakes: Mistake[];
}

/** The labelled containers of one Compose service. */
export interface Service {
  project: string;
  name: string;
  /** how problems name it */
  subject: string;
  containers: Asked[];
}

/** `docker compose run` copies a service's labels; what it starts is not the service. */
export function isOneOff(container: ContainerFacts): boolean {
  return container.labels['com.docker.compose.oneoff']?.toLowerCase() === 'true';
}

/** True for a container of the projects that LIFEBOAT_SCOPE means. */
export function isInScope(container: ContainerFacts, { settings: { scope }, project }: PlanInput): boolean {
  if (scope.kind === 'all') return true;
  if (scope.kind === 'project') return container.project === project;
  return scope.names.includes(container.project);
}

/** Reads the labels of containers and puts those of one service together, in the order of container names. */
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
    // A stopped container beside a running one is what a recreation or a scaling down left behind.
    const running = group.containers.filter(({ container }) => container.running);
    if (running.length > 0) group.containers = running;
  }
  return [...groups.values()];
}

/** The first part of each service's source names: unique in its project unless `lifeboat.name` says otherwise. */
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

/** True if the container asks to be backed up, be it in a way that cannot be read. */
export function asks({ mistakes, values }: Asked): boolean {
  const parents: readonly string[] = ['lifeboat.postgres', 'lifeboat.volumes'];
  return (
    Boolean(values['lifeboat.postgres'] || values['lifeboat.volumes']) ||
    mistakes.some(({ key }) => parents.includes(key))
  );
}
