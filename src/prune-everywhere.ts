import type { CopyPlace } from './copy.ts';
import { planWithKeep } from './copy-plan.ts';
import { type ErrorInfo, errorInfo } from './errors.ts';
import { type PruneAloneDeps, type PruneRequest, type PruneResult, pruneAlone } from './prune.ts';

/** The destination and its copies, each with its own retention. */
export interface PruneEverywhereDeps extends PruneAloneDeps {
  /** how the destination is named to people */
  destination: string;
  copies: readonly CopyPlace[];
}

/** What became of one place. */
export type Pruning = { destination: string } & ({ result: PruneResult } | { error: ErrorInfo });

/**
 * Prunes the destination, then each copy: one that fails keeps none of the others from it.
 *
 * @throws what the destination's own prune throws: then no copy is touched
 */
export async function pruneEverywhere(
  deps: PruneEverywhereDeps,
  request: PruneRequest,
  signal: AbortSignal,
): Promise<Pruning[]> {
  const { destination, copies, ...alone } = deps;
  const all: Pruning[] = [{ destination, result: await pruneAlone(alone, request, signal) }];
  for (const { name, keep, open } of copies) {
    signal.throwIfAborted();
    const own = {
      ...alone,
      ...(keep ? { keep } : {}),
      plan: async () => planWithKeep(await deps.plan(), keep),
      repository: async () => open(await deps.repository(), { create: false }),
    };
    try {
      all.push({ destination: name, result: await pruneAlone(own, request, signal) });
    } catch (error) {
      all.push({ destination: name, error: errorInfo(error) });
    }
  }
  return all;
}
