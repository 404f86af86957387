import path from 'node:path';
import { errorInfo, hasCode } from '../base/errors.ts';
import { missedRun } from '../plan/values/schedule.ts';
import type { RunReport } from '../report/events.ts';
import type { LastResult } from '../run/source-status.ts';
import { copyAndPrune } from './after-commit.ts';
import { beginRun, type Leased, leaseRepository, type Run } from './begin.ts';
import type { BackupDeps, BackupRequest } from './context.ts';
import { type Ending, finish } from './report.ts';
import { storeNothing, storeSnapshot } from './store.ts';

/**
 * Runs one backup: plan → capture → store → commit → copy → prune → report. Returns the report, whatever the outcome.
 *
 * @throws LOCKED when another run is under way, INTERRUPTED when the signal aborts before the run begins; then nothing
 * was done
 */
export async function backup(deps: BackupDeps, request: BackupRequest): Promise<RunReport> {
  const lock = await deps.lock();
  try {
    await deps.recover();
    await request.confirm?.();
    request.signal.throwIfAborted();
    const lease = await askForLease(deps);
    request.begun?.();
    const { whenWanted } = lock;
    return await backupUnderLock(deps, { ...request, ...(await withoutBases(deps, request)), whenWanted }, lease);
  } finally {
    await lock.release();
  }
}

/**
 * Leaves base backups that are not due out of a manual run of all sources, which does what the schedules do. One is
 * due if the last one failed, was made before the last time of its schedule, or is not known at the destination. All
 * are due once a check has found damage.
 */
async function withoutBases(
  { state, project, zone, now }: BackupDeps,
  { trigger, only }: BackupRequest,
): Promise<Pick<BackupRequest, 'isLeftOut'>> {
  if (trigger !== 'manual' || only) return {};
  const results = await state.results().catch((): Record<string, LastResult> => ({}));
  const chain = (await state.chain(project).catch(() => undefined)) ?? [];
  const damaged = await state.damaged().catch(() => ['unknown']);
  const isThere = (run: string) => damaged.length === 0 && chain.some(({ id }) => id === run);
  return {
    isLeftOut({ kind, name, schedule }) {
      const last = results[name];
      return (
        kind === 'base' &&
        last?.status === 'ok' &&
        isThere(last.run) &&
        !missedRun(schedule, zone, new Date(last.at), now())
      );
    },
  };
}

/**
 * Backs up for a caller that holds the lock. Never rejects.
 *
 * @param takeLease returns a lease that the caller requested; absent: the run takes one. The run releases it
 */
export async function backupUnderLock(
  deps: BackupDeps,
  request: BackupRequest,
  takeLease?: () => Promise<Leased>,
): Promise<RunReport> {
  const run = await beginRun(deps, request, takeLease);
  const ending = request.copiesOnly ? storeNothing(request, run) : await storeSnapshot(deps, request, run);
  await copyAndPrune(deps, request, run, ending);
  // Before the report, which may take long.
  await clearUp(deps, run, ending);
  await run.release();
  const report = await finish(deps, request, run, ending);
  await run.end();
  return report;
}

/**
 * Requests the lease. Throws LOCKED when another agent holds it. The returned function rejects with any other failure.
 */
async function askForLease(deps: BackupDeps): Promise<() => Promise<Leased>> {
  const taking = leaseRepository(deps);
  await taking.catch((error: unknown) => {
    if (hasCode(error, 'LOCKED')) throw error;
  });
  return () => taking;
}

async function clearUp(deps: BackupDeps, { start, log }: Run, ending: Ending): Promise<void> {
  await deps.clear(path.join(deps.spool, start.id), start.id);
  try {
    // A helper that was killed while it stored an object leaves an unfinished file.
    // One that stored WAL in a crash left it too recently for the sweep after that crash.
    await deps.sweepTemporary({ onlyWal: ending.status === 'ok' });
  } catch (error) {
    log.warn('leftovers of the run could not be removed', { ...errorInfo(error) });
  }
}
