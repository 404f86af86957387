import type { ContainerDetails } from '../docker/answers.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
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
  const labels = [`com.docker.compose.project=${container.project}`, `com.docker.compose.service=${container.service}`];
  const found: Current[] = [];
  for (const { id, name, labels: its } of await engine.listContainers({ labels })) {
    if (its['com.docker.compose.oneoff']?.toLowerCase() === 'true') continue;
    const details = await inspect(engine, id);
    if (details) found.push({ container: { ...container, id, name }, details });
  }
  return found;
}

async function inspect(engine: Engine, id: string): Promise<ContainerDetails | undefined> {
  return engine.inspectContainer(id).catch((error: unknown) => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
}
