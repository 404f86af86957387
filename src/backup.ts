import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { copyAndPrune } from './after-commit.ts';
import type { BackupDeps, BackupRequest, RunContext } from './backup-context.ts';
import { captureAll, failTooLarge } from './capture-all.ts';
import { type Captured, vanishedOutcome } from './capture-outcome.ts';
import { errorInfo, LifeboatError, toLifeboatError } from './errors.ts';
import { type Ending, type Found, finish } from './finish.ts';
import { openHolds } from './hold.ts';
import { Journal, journalObjects, readJournal } from './journal.ts';
import { prolongLocks } from './locks.ts';
import { type Log, withTail } from './log.ts';
import type { Plan, Problem } from './plan/model.ts';
import { planWhenUp } from './plan-when-up.ts';
import { redactDeep } from './redact.ts';
import type { Progress, RunReport, RunStart } from './report/events.ts';
import { clockProblems, emptyRunError, refuseClear, refuseUnsigned, runStatus, vanishedSources } from './run-rules.ts';
import { spoolError } from './spool.ts';
import { nextPlace } from './store/chain.ts';
import { isSettled } from './store/commit.ts';
import type { Lease } from './store/lease.ts';
import { FORMAT, type Manifest } from './store/manifest.ts';
import { newSnapshotId } from './store/snapshot-id.ts';

/**
 * One run: plan → capture → store → commit → copy → prune → report. Resolves to the report whatever the outcome. Rejects only before
 * anything was done: LOCKED when another run is under way.
 */
export async function backup(deps: BackupDeps, request: BackupRequest): Promise<RunReport> {
  const lock = await deps.lock();
  try {
    await deps.recover();
    const lease = await leaseIfReachable(deps);
    request.begun?.();
    const { whenWanted } = lock;
    return await backupUnderLock(deps, { ...request, whenWanted }, lease);
  } finally {
    await lock.release();
  }
}

/** LOCKED when another agent has the lease. Any other failure is the run's, which reports it. */
async function leaseIfReachable(deps: BackupDeps): Promise<Lease | LifeboatError> {
  try {
    return await deps.lease(await deps.repository());
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'LOCKED') throw error;
    return toLifeboatError(spoolError(error));
  }
}

/** The same for whoever holds the lock already; takes the lease if it is not given, and gives it back. Never rejects. */
export async function backupUnderLock(
  deps: BackupDeps,
  request: BackupRequest,
  lease?: Lease | LifeboatError,
): Promise<RunReport> {
  const plan = await planOf(deps, request).catch((error: unknown) => toLifeboatError(error));
  const found: Found = { plan, snapshots: [], lease };
  const run = startRun(deps, request, plan);
  const { log, tail } = withTail(deps.log);
  deps.dispatcher.emit({ type: 'run-started', run });
  log.info('run started', { run: run.id, trigger: run.trigger, sources: run.sources });
  const journal = beginJournal(deps, run);
  const ending = await attempt(deps, request, run, journal, found, log);
  await copyAndPrune(deps, request, ending, found, log);
  // Before the report, which takes its time.
  await clearUp(deps, run, ending, log);
  if (found.lease && !(found.lease instanceof LifeboatError)) await found.lease.release();
  const report = await finish(deps, request, run, ending, found, log, tail);
  if (journal instanceof Journal) await endJournal(journal, log);
  return report;
}

/** A safety snapshot is of what runs: its restore has found it. */
function planOf(deps: BackupDeps, { trigger, signal }: BackupRequest): Promise<Plan> {
  if (trigger === 'safety') return deps.plan();
  const progress = (progress: Progress) => deps.dispatcher.emit({ type: 'progress', progress });
  return planWhenUp({ plan: deps.plan, progress, log: deps.log, signal });
}

async function clearUp(deps: BackupDeps, run: RunStart, ending: Ending, log: Log): Promise<void> {
  await deps.clear(path.join(deps.spool, run.id), run.id);
  try {
    // A helper that was killed in the middle of storing an object could not clear up after itself.
    if (ending.status !== 'ok') await deps.sweepTemporary();
  } catch (error) {
    log.warn('what the run left could not be removed', { ...errorInfo(error) });
  }
}

/** Without a journal nothing may be done, but the failure is to be told like any other. */
function beginJournal(deps: BackupDeps, run: RunStart): Journal | LifeboatError {
  try {
    return new Journal(deps.journals, { type: 'start', verb: 'backup', run, agent: deps.agentId });
  } catch (error) {
    return toLifeboatError(spoolError(error));
  }
}

/** A hold that could not be undone keeps the journal open: {@link BackupDeps.recover} tries again. */
async function endJournal(journal: Journal, log: Log): Promise<void> {
  const open = openHolds(await readJournal(journal.file));
  if (open.length === 0) return journal.close();
  journal.record({ type: 'reported' });
  log.warn('containers are still held; trying again within a minute', {
    containers: open.map(({ container }) => container.name),
  });
}

function startRun(deps: BackupDeps, request: BackupRequest, plan: Plan | LifeboatError): RunStart {
  const start = deps.now();
  return {
    id: newSnapshotId(start),
    rid: randomUUID(),
    project: deps.project,
    trigger: request.trigger,
    start: start.toISOString(),
    sources: plan instanceof LifeboatError ? [] : plan.sources.filter(request.only ?? all).map(({ name }) => name),
  };
}

const all = () => true;

/** Never rejects: what went wrong is in the ending, and nothing of a run that committed nothing stays behind. */
async function attempt(
  deps: BackupDeps,
  request: BackupRequest,
  run: RunStart,
  journal: Journal | LifeboatError,
  found: Found,
  log: Log,
): Promise<Ending> {
  const { plan } = found;
  const captured: Captured[] = [];
  const problems: Problem[] = plan instanceof LifeboatError ? [] : [...plan.problems];
  let context: RunContext | undefined;
  try {
    if (plan instanceof LifeboatError) throw plan;
    if (journal instanceof LifeboatError) throw journal;
    if (found.lease instanceof LifeboatError) throw found.lease;
    const repository = await deps.repository();
    found.lease ??= await deps.lease(repository);
    const list = await repository.snapshots(request.signal);
    const { snapshots, damaged } = list;
    found.snapshots = snapshots;
    found.repository = repository;
    for (const { id, error } of damaged) {
      const hint = 'Run `lifeboat check`; what this snapshot alone held cannot be restored.';
      problems.push({
        severity: 'error',
        code: error.code,
        subject: id,
        message: `the manifest cannot be used: ${error.message}`,
        hint,
      });
    }
    problems.push(...clockProblems(snapshots, deps.now()));
    refuseUnsigned(repository.signing, snapshots);
    refuseClear(repository.keys, snapshots);
    const place = await nextPlace(repository, list, found.lease.claimed);
    context = { run, journal, repository, lease: found.lease, snapshots, place, log, signal: request.signal };
    await captureAll(deps, context, plan.sources.filter(request.only ?? all), captured, problems);
    if (request.trigger !== 'safety' && (request.trigger !== 'manual' || !request.only)) {
      for (const source of vanishedSources(
        context.snapshots.map(({ manifest }) => manifest),
        plan,
        await deps.state.accepted(),
      )) {
        captured.push(vanishedOutcome(source));
      }
    }
    request.signal.throwIfAborted();
    await failTooLarge(deps.capturer(context), captured);
    return await commit(deps, context, captured, problems);
  } catch (error) {
    const why = errorInfo(request.signal.aborted ? request.signal.reason : spoolError(error));
    const mayArrive = journal instanceof Journal && (await wasSent(journal)) && !isSettled(error);
    if (mayArrive) why.hint = [...(why.hint ? [why.hint] : []), MAY_ARRIVE].join(' ');
    log.error('run failed', { ...why });
    if (context && !mayArrive) await removeObjects(context);
    return { status: 'failed', results: captured.map(({ report }) => report), problems, error: why };
  }
}

const MAY_ARRIVE =
  'Its manifest was on its way: if it arrives after all, the snapshot is whole; if not, a prune removes what the run stored.';

/** Whether the manifest may still appear: then what it names is left to a prune, which waits for a day. */
async function wasSent({ file }: Journal): Promise<boolean> {
  return (await readJournal(file)).some(({ type }) => type === 'commit');
}

/** What the failed run stored goes again; a rest is named in its journal only until then, so it is told. */
async function removeObjects({ repository, journal, log }: RunContext): Promise<void> {
  try {
    await repository.removeObjects(await journalObjects(journal.file));
  } catch (error) {
    log.warn('objects of the failed run could not be removed', { ...errorInfo(error) });
  }
}

/** Writes the manifest, which makes the snapshot exist; before it, nothing of the run is visible. */
async function commit(
  deps: BackupDeps,
  context: RunContext,
  captured: Captured[],
  problems: Problem[],
): Promise<Ending> {
  const results = captured.map(({ report }) => report);
  const status = runStatus(results, problems);
  if (status === 'failed') {
    await removeObjects(context);
    const ending: Ending = { status, results, problems };
    return results.length === 0 ? { ...ending, error: emptyRunError(problems) } : ending;
  }
  const manifest: Manifest = {
    format: FORMAT,
    project: deps.project,
    ...context.place,
    id: context.run.id,
    start: context.run.start,
    end: deps.now().toISOString(),
    trigger: context.run.trigger,
    agentVersion: deps.agentVersion,
    status,
    // What a tool said is in the errors and warnings; the manifest is readable without any key.
    sources: Object.fromEntries(captured.map(({ report, entry }) => [report.name, { ...entry, ...clean(entry) }])),
  };
  problems.push(...(await prolongLocks(context.repository, manifest, deps.now(), context.signal)));
  const { fence } = context.lease;
  const sending = () => context.journal.record({ type: 'commit' });
  await context.repository.commit(manifest, { fence, sending });
  // The snapshot stands: an index that cannot be cached only makes the next run fetch it.
  for (const { keepIndex } of captured) {
    await keepIndex?.().catch((error: unknown) =>
      context.log.warn('an index could not be cached', { ...errorInfo(error) }),
    );
  }
  return { status, results, problems, snapshot: context.run.id };
}

function clean(entry: Captured['entry']): Partial<Captured['entry']> {
  const { error, warnings, databases } = entry;
  return redactDeep({ warnings, ...(error ? { error } : {}), ...(databases ? { databases } : {}) });
}
