import path from 'node:path';
import { errorInfo, hasCode } from '../base/errors.ts';
import type { RunReport } from '../report/events.ts';
import type { Lease } from '../store/repository/lease.ts';
import { copyAndPrune } from './after-commit.ts';
import { beginRun, type Run } from './begin.ts';
import type { BackupDeps, BackupRequest } from './context.ts';
import { type Ending, finish } from './report.ts';
import { storeSnapshot } from './store.ts';

/**
 * One run: plan → capture → store → commit → copy → prune → report. Resolves to the report whatever the outcome. Rejects only before
 * anything was done: LOCKED when another run is under way.
 */
export async function backup(deps: BackupDeps, request: BackupRequest): Promise<RunReport> {
  const lock = await deps.lock();
  try {
    await deps.recover();
    const lease = await askForLease(deps);
    request.begun?.();
    const { whenWanted } = lock;
    return await backupUnderLock(deps, { ...request, whenWanted }, lease);
  } finally {
    await lock.release();
  }
}

/**
 * Backs up for a caller that holds the lock. Never rejects.
 *
 * @param takeLease - for a lease that was asked for before; absent: the run takes it. The run gives it back
 */
export async function backupUnderLock(
  deps: BackupDeps,
  request: BackupRequest,
  takeLease?: () => Promise<Lease>,
): Promise<RunReport> {
  const run = await beginRun(deps, request, takeLease);
  const ending = await storeSnapshot(deps, request, run);
  await copyAndPrune(deps, request, run, ending);
  // Before the report, which takes its time.
  await clearUp(deps, run, ending);
  await run.release();
  const report = await finish(deps, request, run, ending);
  await run.end();
  return report;
}

/** @throws LOCKED when another agent has the lease. Any other failure is the run's: what is returned rejects with it */
async function askForLease(deps: BackupDeps): Promise<() => Promise<Lease>> {
  const taking = (async () => deps.lease(await deps.repository()))();
  await taking.catch((error: unknown) => {
    if (hasCode(error, 'LOCKED')) throw error;
  });
  return () => taking;
}

async function clearUp(deps: BackupDeps, { start, log }: Run, ending: Ending): Promise<void> {
  await deps.clear(path.join(deps.spool, start.id), start.id);
  try {
    // A helper that was killed in the middle of storing an object could not clear up after itself.
    if (ending.status !== 'ok') await deps.sweepTemporary();
  } catch (error) {
    log.warn('what the run left could not be removed', { ...errorInfo(error) });
  }
}
