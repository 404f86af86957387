import type { ContainerSummary } from './answers.ts';
import type { CallOptions, Engine } from './engine.ts';
import { isNotFound } from './engine-errors.ts';
import { RUN_LABEL } from './helper-labels.ts';

/** Network modes by container id, for engines that do not list them. The mode of a container never changes. */
const unlisted = new WeakMap<Engine, Map<string, string>>();

/**
 * Lists all containers, with their network modes. Docker lists these. Podman does not, so each of its containers except
 * helpers is inspected once. The mode of a container that vanishes meanwhile stays empty.
 *
 * @throws ENGINE_*
 */
export async function listWithNetworks(engine: Engine, options: CallOptions = {}): Promise<ContainerSummary[]> {
  const before = unlisted.get(engine);
  const now = new Map<string, string>();
  const all: ContainerSummary[] = [];
  for (const one of await engine.listContainers(options)) {
    const isListed = one.networkMode !== '' || RUN_LABEL in one.labels;
    const networkMode = isListed ? one.networkMode : (before?.get(one.id) ?? (await modeOf(engine, one.id, options)));
    if (!isListed) now.set(one.id, networkMode);
    all.push({ ...one, networkMode });
  }
  unlisted.set(engine, now);
  return all;
}

async function modeOf(engine: Engine, id: string, options: CallOptions): Promise<string> {
  try {
    return (await engine.inspectContainer(id, options)).networkMode;
  } catch (error) {
    if (isNotFound(error)) return '';
    throw error;
  }
}

/**
 * Returns true if the host or another container shares the network namespace of this one. Then a server that listens
 * there may belong to the other container. Helpers do not count, because they serve nothing, nor do containers that are
 * not running.
 *
 * @throws ENGINE_*
 */
export async function sharesNetwork(engine: Engine, id: string, options: CallOptions = {}): Promise<boolean> {
  const all = await listWithNetworks(engine, options);
  const own = all.find((one) => one.id === id);
  if (!own || own.networkMode === '' || own.networkMode === 'host' || own.networkMode.startsWith('container:'))
    return true;
  return all.some(({ labels, networkMode, state }) => {
    if (!['running', 'paused', 'restarting'].includes(state)) return false;
    const [kind, of = ''] = networkMode.split(':');
    return kind === 'container' && !(RUN_LABEL in labels) && of !== '' && (id.startsWith(of) || of === own.name);
  });
}
