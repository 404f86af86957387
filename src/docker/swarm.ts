import { hasCode, type LifeboatError } from '../base/errors.ts';
import type { CallOptions, Engine } from './engine.ts';
import { isForbidden, isNotFound } from './engine-errors.ts';

/**
 * Containers of a Swarm. `docker stack deploy` gives a container the labels of its service under `labels`. Labels under
 * `deploy.labels` belong to the service itself, and only a manager of the Swarm knows them.
 */

const SERVICE_ID = 'com.docker.swarm.service.id';
const SERVICE_NAME = 'com.docker.swarm.service.name';
const STACK = 'com.docker.stack.namespace';

type Labels = Readonly<Record<string, string>>;

/**
 * Returns the project and the service of a container, as a Compose file names them, whether `docker compose` or
 * `docker stack` created it. Undefined for any other container.
 */
export function placeOf(labels: Labels): { project: string; service?: string } | undefined {
  const { 'com.docker.compose.project': compose, 'com.docker.compose.service': own } = labels;
  if (compose !== undefined) return { project: compose, ...(own === undefined ? {} : { service: own }) };
  const { [STACK]: project, [SERVICE_NAME]: name } = labels;
  if (!project || !name) return undefined;
  return { project, service: name.startsWith(`${project}_`) ? name.slice(project.length + 1) : name };
}

/** Returns the labels by which the containers of a service of a stack are listed. */
export function stackFilter(project: string, service: string): string[] {
  return [`${STACK}=${project}`, `${SERVICE_NAME}=${project}_${service}`];
}

/** The labels of a container and of its service. */
export interface ServiceLabels {
  labels: Record<string, string>;
  /** why the service may have labels that are not known now: a Swarm without a leader shows no service */
  unreadLabels?: string;
}

/**
 * Adds the labels of Lifeboat under `deploy.labels` to those of a container, which win. A worker of the Swarm does not
 * know them, a proxy may hide them, and the service may be gone: then the container's own labels count alone.
 *
 * @throws ENGINE_UNREACHABLE, the signal's reason
 */
export async function withServiceLabels(
  engine: Pick<Engine, 'inspectService'>,
  labels: Labels,
  options: CallOptions,
): Promise<ServiceLabels> {
  const id = labels[SERVICE_ID];
  if (id === undefined) return { labels };
  try {
    const service = await engine.inspectService(id, options);
    const own = Object.entries(service.labels).filter(([key]) => /^lifeboat/i.test(key));
    return { labels: { ...Object.fromEntries(own), ...labels } };
  } catch (error) {
    if (!hasCode(error, 'ENGINE_REFUSED')) throw error;
    return hasNoLabels(error) ? { labels } : { labels, unreadLabels: error.message };
  }
}

/** Returns whether an engine always refuses to show a service, so that its labels were never used. */
function hasNoLabels(error: LifeboatError): boolean {
  return isForbidden(error) || isNotFound(error) || /not a swarm manager/i.test(error.message);
}
