import type { Plan } from '../plan/model.ts';
import type { Renewed } from '../report/prune-text.ts';
import { lastStoredOf } from '../run/history.ts';
import { choosePacksToRenew, type RenewalRule } from '../store/content/repack.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { isDamage } from '../store/repository/damage.ts';
import { readPacks, readUse } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import { isAboutManifest } from '../store/repository/snapshot-list.ts';

/** Where to look for packs that are partly unused. */
interface RenewalDeps {
  repository: Pick<Repository, 'readPackList'>;
  plan: Pick<Plan, 'sources'>;
  /** the remaining snapshots, newest first */
  manifests: readonly Manifest[];
  rule: RenewalRule;
  signal: AbortSignal;
}

/** Returns what the next backup stores again because packs are partly unused. Omits sources with unreadable lists. */
export async function foreseeRenewal(deps: RenewalDeps): Promise<Renewed[]> {
  const { repository, plan, manifests, rule, signal } = deps;
  const all: Renewed[] = [];
  for (const { name } of plan.sources) {
    const last = lastStoredOf(manifests, name);
    if (!last) continue;
    const packs = await readPacks(repository, last.entry, signal).catch((error: unknown) => {
      signal.throwIfAborted();
      if (!isDamage(error) && !isAboutManifest(error)) throw error;
      return [];
    });
    const useOf = (ids: ReadonlySet<string>) => readUse(repository, manifests, ids, signal);
    const { ids, again, packs: bytes } = await choosePacksToRenew(packs, useOf, rule);
    if (ids.size > 0) all.push({ source: name, packs: ids.size, bytes, again });
  }
  return all;
}
