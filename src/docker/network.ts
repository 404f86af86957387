import type { CallOptions, Engine } from './engine.ts';
import { RUN_LABEL } from './helper-labels.ts';

/**
 * Returns true if the host or another container shares the network namespace of this one. Then a server that listens
 * there may belong to the other container. Helpers do not count, because they serve nothing, nor do containers that are
 * not running.
 *
 * @throws ENGINE_*
 */
export async function sharesNetwork(engine: Engine, id: string, options: CallOptions = {}): Promise<boolean> {
  const all = await engine.listContainers(options);
  const own = all.find((one) => one.id === id);
  if (!own || own.networkMode === '' || own.networkMode === 'host' || own.networkMode.startsWith('container:'))
    return true;
  return all.some(({ labels, networkMode, state }) => {
    if (!['running', 'paused', 'restarting'].includes(state)) return false;
    const [kind, of = ''] = networkMode.split(':');
    return kind === 'container' && !(RUN_LABEL in labels) && of !== '' && (id.startsWith(of) || of === own.name);
  });
}
