import type { ContainerDetails } from '../docker/answers.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { stackFilter } from '../docker/swarm.ts';
import type { ContainerRef } from './journal.ts';

/** A container as it is now, which may be a replacement by Compose. */
export interface Current {
  container: ContainerRef;
  details: ContainerDetails;
}

/**
 * Returns the current container of a reference: the same one, or the one that replaces it. Returns undefined if it is
 * gone, or if its service has several other containers, because it is unknown which one is the replacement.
 *
 * @throws ENGINE_*
 */
export async function current(engine: Engine, container: ContainerRef): Promise<Current | undefined> {
  const [first, another] = await currentAll(engine, container);
  return another ? undefined : first;
}

/**
 * Returns the containers that a reference stands for now: the container itself or, if it is gone, all containers of its
 * service. Containers of `docker compose run` are no replacement.
 *
 * @throws ENGINE_*
 */
export async function currentAll(engine: Engine, container: ContainerRef): Promise<Current[]> {
  const own = await inspect(engine, container.id);
  if (own) return [{ container, details: own }];
  if (container.service === '') return [];
  const { project, service } = container;
  const compose = [`com.docker.compose.project=${project}`, `com.docker.compose.service=${service}`];
  const listed = await engine.listContainers({ labels: compose });
  const found: Current[] = [];
  for (const { id, name, labels: its } of listed.length > 0 ? listed : await listTasks(engine, container)) {
    if (its['com.docker.compose.oneoff']?.toLowerCase() === 'true') continue;
    const details = await inspect(engine, id);
    if (details) found.push({ container: { ...container, id, name }, details });
  }
  return found;
}

/** Lists the running containers of a service of a Swarm's stack. Swarm keeps those that it has replaced. */
async function listTasks(engine: Engine, { project = '', service }: ContainerRef) {
  if (project === '') return [];
  const tasks = await engine.listContainers({ labels: stackFilter(project, service) });
  return tasks.filter(({ state }) => state === 'running');
}

async function inspect(engine: Engine, id: string): Promise<ContainerDetails | undefined> {
  return engine.inspectContainer(id).catch((error: unknown) => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
}
