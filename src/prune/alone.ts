import type { Plan } from '../plan/model.ts';
import type { Lock } from '../run/process-lock.ts';
import type { Lease } from '../store/repository/lease.ts';
import { takeLeaseOnceThereIsRoom } from '../store/repository/lease-for-room.ts';
import type { Repository } from '../store/repository/repository.ts';
import { type PruneDeps, type PruneRequest, type PruneResult, prune } from './prune.ts';

/** Dependencies of a prune outside of a run. */
export interface PruneAloneDeps extends Omit<PruneDeps, 'plan' | 'repository' | 'fence' | 'signal'> {
  /** keeps runs of this project from starting until released; throws LOCKED during a run */
  lock(): Promise<Lock>;
  /** cleans up after dead runs */
  recover(): Promise<void>;
  plan(): Promise<Plan>;
  repository(): Promise<Repository>;
  /** keeps other agents from writing to the project at the destination; throws LOCKED while one does */
  lease(repository: Repository): Promise<Lease>;
}

/** Prunes outside of a run. A dry run takes no lock. @throws LOCKED during a run; what {@link prune} throws */
export async function pruneAlone(
  deps: PruneAloneDeps,
  request: PruneRequest,
  signal: AbortSignal,
): Promise<PruneResult> {
  const lock = request.dryRun ? undefined : await deps.lock();
  let lease: Lease | undefined;
  try {
    if (lock) await deps.recover();
    const repository = await deps.repository();
    lease = lock && (await takeLeaseOnceThereIsRoom(() => deps.lease(repository)));
    const fence = lease?.fence ?? (async () => undefined);
    return await prune({ ...deps, plan: await deps.plan(), repository, fence, signal }, request);
  } finally {
    await lease?.release();
    await lock?.release();
  }
}
