import type { Plan } from '../plan/model.ts';
import type { CopyReport } from '../report/events.ts';
import type { Lock } from '../run/process-lock.ts';
import type { Lease } from '../store/repository/lease.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { CopyDeps } from './context.ts';
import { copyAll } from './copy.ts';

/** Dependencies of `lifeboat copy`. */
export interface CopyAloneDeps {
  /** keeps runs of this project from starting until released; throws LOCKED during a run */
  lock(): Promise<Lock>;
  recover(): Promise<void>;
  plan(): Promise<Plan>;
  repository(): Promise<Repository>;
  /** keeps other agents from writing to the project at the destination; throws LOCKED while one does */
  lease(repository: Repository): Promise<Lease>;
  deps(plan: Plan): Omit<CopyDeps, 'main' | 'lease' | 'signal'>;
}

export interface CopyRequest extends Pick<CopyDeps, 'signal' | 'progress'> {}

/** Updates the copies outside of a run. Removes nothing. @throws LOCKED; what opening the destination throws */
export async function copyAlone(alone: CopyAloneDeps, request: CopyRequest): Promise<CopyReport[]> {
  const lock = await alone.lock();
  let lease: Lease | undefined;
  try {
    await alone.recover();
    const repository = await alone.repository();
    lease = await alone.lease(repository);
    const signal = AbortSignal.any([request.signal, ...(lock.whenWanted ? [lock.whenWanted()] : [])]);
    const deps = { ...alone.deps(await alone.plan()), main: async () => repository, lease };
    return await copyAll({ ...deps, ...request, signal });
  } finally {
    await lease?.release();
    await lock.release();
  }
}
