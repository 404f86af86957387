import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
import type { LastGood } from '../run/history.ts';
import type { State } from '../run/state.ts';
import { lostPacksText } from '../store/content/previous-index.ts';
import { packsToRenew } from '../store/content/repack.ts';
import { withKeyId } from '../store/objects/manifest.ts';
import { readPacks } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import { isSealedWith } from '../store/seal/encryption.ts';
import type { PreviousTree } from '../trees/job.ts';
import type { RunContext } from './context.ts';

/** Access to the previous snapshot of a source. An agent with only public keys reads it from its cache. */

/** Reported, because a recipient that is missing by mistake shows only when somebody needs it. */
const OTHER_KEYS =
  'the encryption keys are not those of the last snapshot, so everything is stored again; older snapshots still need the old keys';

interface Memory {
  state: State;
  context: RunContext;
}

/**
 * Returns the tree to compare with: the cached index if it belongs to the last snapshot of the source, else the
 * repository's. If neither can be read, returns no tree and a warning.
 */
export async function previousTree(
  { state, context }: Memory,
  name: string,
  lastStored: LastGood | undefined,
  directory: string,
): Promise<{ tree?: PreviousTree; warnings: string[] }> {
  const { repository, log, run, signal } = context;
  if (!lastStored?.entry.index) return { warnings: [] };
  const { index } = lastStored.entry;
  const cached = await state.cachedIndex(name, index.sha256);
  const indexPath = cached ?? path.join(directory, 'previous.ndjson');
  try {
    if (!cached) await repository.fetchIndex(withKeyId(index, lastStored.entry), indexPath, signal);
    const needed = await readPacks(repository, lastStored.entry, signal);
    const damaged = new Set(await state.damaged());
    const alike = needed.filter((pack) => isSealedWith(pack, repository.keys));
    const sound = alike.filter(({ key }) => !damaged.has(key));
    // Listed once for all sources. Without that list, the store lists the packs of this source.
    const { stored: there } = context;
    const packs = there ? sound.filter((pack) => there.has(pack)) : sound;
    const lost = sound.length - packs.length;
    const known = { indexPath, ...(there ? { listed: true } : {}) };
    const warnings = [
      ...(alike.length < needed.length ? [OTHER_KEYS] : []),
      ...(lost > 0 ? [lostPacksText(lost)] : []),
    ];
    // No repacking in a safety snapshot: a restore waits for it.
    if (run.trigger === 'safety') return { tree: { ...known, packs }, warnings };
    const renewed = await packsToRenew(indexPath, packs);
    if (renewed.size > 0)
      log.info('storing the remaining content of mostly unused packs again', { source: name, packs: renewed.size });
    return { tree: { ...known, packs: packs.filter(({ id }) => !renewed.has(id)) }, warnings };
  } catch (error) {
    const info = errorInfo(error);
    const text = 'the last index cannot be read, so everything is stored again';
    log.warn(text, { source: name, ...info });
    return { warnings: [`${text}: ${info.message} (${info.code})`] };
  }
}

/** Returns a reader of the source's facts, which prefers the cache. It throws as the repository does. */
export function factsReader({ state, context }: Memory, name: string): Repository['readFacts'] {
  return async (ref) => (await state.cachedFacts(name, ref.sha256)) ?? context.repository.readFacts(ref);
}
