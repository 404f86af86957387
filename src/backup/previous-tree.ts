import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
import type { LastGood } from '../run/history.ts';
import type { State } from '../run/state.ts';
import { lostPacksText } from '../store/content/previous-index.ts';
import { choosePacksToRenew, type RenewalRule } from '../store/content/repack.ts';
import { withKeyId } from '../store/objects/manifest.ts';
import { readPacks, readUse } from '../store/repository/pack-lists.ts';
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
  /** when the content of packs is stored again */
  renewal: RenewalRule;
  /** packs that another source of the run renews, by id: this one does so later, and then finds their new places */
  claimed?: ReadonlySet<string>;
}

/**
 * Returns the tree to compare with: the cached index if it belongs to the last snapshot of the source, else the
 * repository's. If neither can be read, returns no tree and a warning.
 */
export async function previousTree(
  { state, context, renewal, claimed = new Set() }: Memory,
  name: string,
  lastStored: LastGood | undefined,
  directory: string,
): Promise<{ tree?: PreviousTree; renewed?: ReadonlySet<string>; warnings: string[] }> {
  const { repository, log, run, signal } = context;
  if (!lastStored?.entry.index) return { warnings: [] };
  const { index } = lastStored.entry;
  const fetched = context.known?.indexes.get(index.sha256) ?? (await state.cachedIndex(name, index.sha256));
  const indexPath = typeof fetched === 'string' ? fetched : path.join(directory, 'previous.ndjson');
  try {
    if (fetched instanceof Error) throw fetched;
    if (!fetched) await repository.fetchIndex(withKeyId(index, lastStored.entry), indexPath, signal);
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
    const manifests = context.snapshots.map(({ manifest }) => manifest);
    // Read once for all sources, before any service stopped.
    const useOf = async (ids: ReadonlySet<string>) => {
      if (context.known) return context.known.use;
      return readUse(repository, manifests, ids, signal).catch((error: unknown) => {
        signal.throwIfAborted();
        log.warn('unused packs are not looked for', { source: name, ...errorInfo(error) });
        return undefined;
      });
    };
    const renewed = await choosePacksToRenew(packs, useOf, renewal);
    for (const id of claimed) renewed.ids.delete(id);
    if (renewed.ids.size > 0) {
      const { ids, again } = renewed;
      const counts = { packs: ids.size, bytes: again };
      log.info('storing content of partly unused or small packs again', { source: name, ...counts });
    }
    return {
      tree: { ...known, packs: packs.filter(({ id }) => !renewed.ids.has(id)) },
      renewed: renewed.ids,
      warnings,
    };
  } catch (error) {
    const info = errorInfo(error);
    const text = 'the last index cannot be read, so everything is stored again';
    log.warn(text, { source: name, ...info });
    return { warnings: [`${text}: ${info.message} (${info.code})`] };
  }
}

/** Returns a reader of the source's facts, which prefers the cache. It throws as the repository does. */
export function factsReader({ state, context }: Omit<Memory, 'renewal'>, name: string): Repository['readFacts'] {
  return async (ref) => (await state.cachedFacts(name, ref.sha256)) ?? context.repository.readFacts(ref);
}
