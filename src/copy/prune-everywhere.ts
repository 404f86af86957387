import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import { type PruneAloneDeps, type PruneRequest, type PruneResult, pruneAlone } from '../prune/prune.ts';
import type { State } from '../run/state.ts';
import { watched } from '../run/watchdog.ts';
import type { Lease } from '../store/repository/lease.ts';
import { takeLeaseOnceThereIsRoom } from '../store/repository/lease-for-room.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { CopyPlace } from './copy.ts';
import { planWithKeep } from './plan.ts';
import { DESTINATION, SamePlace } from './same-place.ts';

/** The destination and its copies, each with its own retention. */
export interface PruneEverywhereDeps extends PruneAloneDeps {
  /** how the destination is named to people */
  destination: string;
  copies: readonly CopyPlace[];
  /** how long a place may not answer, milliseconds */
  stallTimeoutMs: number;
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
  const names = new Set(copies.map(({ name }) => name));
  const states = Object.entries(await deps.state.copies()).filter(([name]) => names.has(name));
  const same = new SamePlace(Object.fromEntries(states));
  // A dry run takes no lease: it knows what the last run found.
  const unseen =
    request.dryRun || copies.length === 0 ? new Map<string, unknown>() : await lookAtAll(deps, same, signal);
  const kept = same.reasonToKeep(DESTINATION);
  const first = kept ? { error: errorInfo(kept) } : { result: await pruneAlone(alone, request, signal) };
  const all: Pruning[] = [{ destination, ...first }];
  for (const { name, keep, open } of copies) {
    signal.throwIfAborted();
    const own = {
      ...alone,
      ...(keep ? { keep } : {}),
      plan: async () => planWithKeep(await deps.plan(), keep),
      repository: async () => {
        const reason = same.reasonToKeep(name) ?? unseen.get(name);
        if (reason) throw reason;
        const copy = await open(await deps.repository(), { create: false });
        // As after a run: what is on its way there is named by no manifest yet. One that is full can only go on after a prune.
        const { behindSince, error } = (await deps.state.copies())[name] ?? {};
        if (behindSince !== undefined && error?.code !== 'DEST_FULL') throw isBehind(name, behindSince, error);
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

/**
 * Looks whether places are one under two names before anything is removed from either. Returns why a copy could not be looked at: it
 * is not pruned then.
 */
async function lookAtAll(
  { copies, stallTimeoutMs: limitMs, ...deps }: PruneEverywhereDeps,
  same: SamePlace,
  signal: AbortSignal,
): Promise<Map<string, unknown>> {
  const unseen = new Map<string, unknown>();
  const leases: Lease[] = [];
  const lock = await deps.lock();
  const look = async (name: string, open: () => Promise<Repository>) => {
    const message = `${name} did not answer for ${Math.round(limitMs / 1000)} s`;
    const hint = 'Look at the disk, server or network behind it.';
    const stalled = () => new LifeboatError('DEST_UNREACHABLE', message, { hint });
    const take = async (watch: AbortSignal, alive: () => void) => {
      const repository = await open();
      const lease = () => takeLeaseOnceThereIsRoom(() => deps.lease(repository));
      return same.take(name, repository, lease, { signal: watch, alive });
    };
    leases.push(await watched({ limitMs, stalled, signal }, take));
  };
  try {
    const main = await deps.repository();
    await look(DESTINATION, async () => main);
    const lookAt = ({ name, open }: CopyPlace) =>
      look(name, () => open(main, { create: false })).catch((error: unknown) => unseen.set(name, error));
    await Promise.all(copies.map(lookAt));
    signal.throwIfAborted();
  } finally {
    await Promise.all(leases.map((lease) => lease.release()));
    await lock.release();
  }
  return unseen;
}
