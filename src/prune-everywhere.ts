import type { CopyPlace } from './copy.ts';
import { isDestination, planWithKeep } from './copy-plan.ts';
import { type ErrorInfo, errorInfo, LifeboatError } from './errors.ts';
import { type PruneAloneDeps, type PruneRequest, type PruneResult, pruneAlone } from './prune.ts';
import type { State } from './state.ts';
import { type Lease, leaseTokenAt } from './store/lease.ts';
import type { Repository } from './store/repository.ts';

/** The destination and its copies, each with its own retention. */
export interface PruneEverywhereDeps extends PruneAloneDeps {
  /** how the destination is named to people */
  destination: string;
  copies: readonly CopyPlace[];
  state: PruneAloneDeps['state'] & Pick<State, 'copies'>;
}

function isBehind(name: string, since: string, why: ErrorInfo | undefined): LifeboatError {
  return new LifeboatError(
    why?.code ?? 'INTERRUPTED',
    `${name} is not pruned: it has been behind since ${since}${why ? `: ${why.message}` : ''}`,
    {
      hint: 'Nothing of a copy that lacks something is removed. `lifeboat copy` brings it up to date.',
    },
  );
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
  let held: Lease | undefined;
  const lease = async (repository: Repository) => {
    held = await deps.lease(repository);
    return held;
  };
  const all: Pruning[] = [{ destination, result: await pruneAlone({ ...alone, lease }, request, signal) }];
  const token = held?.token;
  for (const { name, keep, open } of copies) {
    signal.throwIfAborted();
    const own = {
      ...alone,
      ...(keep ? { keep } : {}),
      plan: async () => planWithKeep(await deps.plan(), keep),
      repository: async () => {
        const copy = await open(await deps.repository(), { create: false });
        // The newest lease stays where it was given back.
        if (token !== undefined && (await leaseTokenAt(copy.destination, copy.project)) === token)
          throw isDestination(name);
        // As after a run: what is on its way there is named by no manifest yet.
        const { behindSince, error } = (await deps.state.copies())[name] ?? {};
        if (behindSince !== undefined) throw isBehind(name, behindSince, error);
        return copy;
      },
    };
    try {
      all.push({ destination: name, result: await pruneAlone(own, request, signal) });
    } catch (error) {
      all.push({ destination: name, error: errorInfo(error) });
    }
  }
  return all;
}
