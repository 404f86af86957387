import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
import type { LastGood } from '../run/history.ts';
import type { State } from '../run/state.ts';
import { packsToRenew } from '../store/content/repack.ts';
import type { Repository } from '../store/repository/repository.ts';
import { isSealedWith } from '../store/seal/encryption.ts';
import type { PreviousTree } from '../trees/job.ts';
import type { RunContext } from './context.ts';

/** What a run knows of the last one of a source. An agent that holds public keys alone knows it from its cache. */

interface Memory {
  state: State;
  context: RunContext;
}

/**
 * The tree to compare with: the cached index where it belongs to the last snapshot of the source, else the repository's. Where
 * neither can be read there is none, and a warning.
 */
export async function previousTree(
  { state, context }: Memory,
  name: string,
  lastStored: LastGood | undefined,
  directory: string,
): Promise<{ tree?: PreviousTree; warnings: string[] }> {
  const { repository, log, run, signal } = context;
  if (!lastStored?.entry.index) return { warnings: [] };
  const { index, packs: stored } = lastStored.entry;
  const cached = await state.cachedIndex(name, index.sha256);
  const indexPath = cached ?? path.join(directory, 'previous.ndjson');
  try {
    if (!cached) await repository.fetchIndex(index, indexPath, signal);
    const damaged = new Set(await state.damaged());
    const alike = stored.filter((pack) => isSealedWith(pack, repository.keys));
    if (alike.length < stored.length)
      log.info('what was stored with other keys, or none, is stored anew', { source: name });
    const packs = alike.filter(({ key }) => !damaged.has(key));
    // A restore waits for its safety snapshot.
    if (run.trigger === 'safety') return { tree: { indexPath, packs }, warnings: [] };
    const renewed = await packsToRenew(indexPath, packs);
    if (renewed.size > 0)
      log.info('storing what is left in mostly dead packs anew', { source: name, packs: renewed.size });
    return { tree: { indexPath, packs: packs.filter(({ id }) => !renewed.has(id)) }, warnings: [] };
  } catch (error) {
    const info = errorInfo(error);
    const text = 'the last index cannot be read, so everything is stored anew';
    log.warn(text, { source: name, ...info });
    return { warnings: [`${text}: ${info.message} (${info.code})`] };
  }
}

/** Reads facts of the source, from the cache where they are there. Throws as the repository does. */
export function factsReader({ state, context }: Memory, name: string): Repository['readFacts'] {
  return async (ref) => (await state.cachedFacts(name, ref.sha256)) ?? context.repository.readFacts(ref);
}
