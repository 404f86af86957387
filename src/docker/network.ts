import type { CallOptions, Engine } from './engine.ts';
import { RUN_LABEL } from './helper-labels.ts';

/**
 * True if another container, or the host, is in the network namespace of this one, so that what listens there need not
 * be its own. Helpers, which serve nothing, do not count, nor do containers that do not run. Errors: ENGINE_*.
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
