import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import { type PruneAloneDeps, pruneAlone } from '../prune/alone.ts';
import type { PruneRequest, PruneResult } from '../prune/prune.ts';
import { formatWhen } from '../report/format.ts';
import type { State } from '../run/state.ts';
import { watched } from '../run/watchdog.ts';
import type { Lease } from '../store/repository/lease.ts';
import { takeLeaseOnceThereIsRoom } from '../store/repository/lease-for-room.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { CopyPlace } from './context.ts';
import { planWithKeep } from './plan.ts';
import { DESTINATION, SamePlace } from './same-place.ts';

/** Dependencies of pruning the destination and its copies. */
export interface PruneEverywhereDeps extends PruneAloneDeps {
  /** the destination's name in messages */
  destination: string;
  copies: readonly CopyPlace[];
  /** how long a place may take to respond, milliseconds */
  stallTimeoutMs: number;
  state: PruneAloneDeps['state'] & Pick<State, 'copies'>;
}

function isBehind(name: string, since: string, why: ErrorInfo | undefined): LifeboatError {
  return new LifeboatError(
    why?.code ?? 'INTERRUPTED',
    `${name} is not pruned: it has been behind since ${since}${why ? `: ${why.message}` : ''}`,
    {
      hint: 'Only complete copies are pruned. `lifeboat copy` brings it up to date.',
    },
  );
}

/** The result of pruning one place. */
export type Pruning = { destination: string } & ({ result: PruneResult } | { error: ErrorInfo });

/**
 * Prunes the destination, then each copy. A copy that fails does not stop the others. After an interruption, the copies
 * that were not pruned have its error.
 *
 * @throws what the prune of the destination throws; no copy is changed then
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
  // A dry run takes no lease. It relies on the findings of the last run.
  const unreached =
    request.dryRun || copies.length === 0 ? new Map<string, unknown>() : await compareAll(deps, same, signal);
  const kept = same.reasonToKeep(DESTINATION);
  const first = kept ? { error: errorInfo(kept) } : { result: await pruneAlone(alone, request, signal) };
  const all: Pruning[] = [{ destination, ...first }];
  // Backups store packs at the destination, and copies receive them.
  const { renewal: _, ...others } = request;
  for (const { name, keep, open } of copies) {
    const own = {
      ...alone,
      ...(keep ? { keep } : {}),
      plan: async () => planWithKeep(await deps.plan(), keep),
      repository: async () => {
        const reason = same.reasonToKeep(name) ?? unreached.get(name);
        if (reason) throw reason;
        const copy = await open(await deps.repository(), { create: false });
        // As after a run: no manifest names objects that are still being copied. Only a full copy is pruned all the
        // same.
        const { behindSince, error } = (await deps.state.copies())[name] ?? {};
        if (behindSince !== undefined && error?.code !== 'DEST_FULL')
          throw isBehind(name, formatWhen(new Date(behindSince), { now: deps.now(), zone: deps.zone }), error);
        return copy;
      },
    };
    try {
      signal.throwIfAborted();
      all.push({ destination: name, result: await pruneAlone(own, others, signal) });
    } catch (error) {
      all.push({ destination: name, error: errorInfo(signal.aborted ? signal.reason : error) });
    }
  }
  return all;
}

/**
 * Detects places that are the same under two names, before anything is removed. Returns the errors of copies that could
 * not be compared. They are not pruned.
 */
async function compareAll(
  { copies, stallTimeoutMs: limitMs, ...deps }: PruneEverywhereDeps,
  same: SamePlace,
  signal: AbortSignal,
): Promise<Map<string, unknown>> {
  const unreached = new Map<string, unknown>();
  const leases: Lease[] = [];
  const lock = await deps.lock();
  const compare = async (name: string, open: () => Promise<Repository>) => {
    const message = `${name} did not answer for ${Math.round(limitMs / 1000)} s`;
    const hint = 'Check the disk, server or network behind it.';
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
    await compare(DESTINATION, async () => main);
    const compareCopy = ({ name, open }: CopyPlace) =>
      compare(name, () => open(main, { create: false })).catch((error: unknown) => unreached.set(name, error));
    await Promise.all(copies.map(compareCopy));
    signal.throwIfAborted();
  } finally {
    await Promise.all(leases.map((lease) => lease.release()));
    await lock.release();
  }
  return unreached;
}
