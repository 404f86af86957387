import { LifeboatError } from '../base/errors.ts';
import { nameRun } from '../base/log.ts';
import { chooseRollback, matching, WHY_MISSING, whereItStays } from '../kept/choose.ts';
import { createdNotes } from '../kept/created.ts';
import { findLostSwap } from '../kept/cut-off.ts';
import { asideText, madeAgo, replacedText } from '../kept/describe.ts';
import { refuseIfOlder, refuseOlder } from '../kept/last-unkept.ts';
import { refuseOutOfTurn } from '../kept/order.ts';
import { recordUnrecorded, withoutSaving } from '../kept/unrecorded.ts';
import { isHalfRestored } from '../kept/volumes.ts';
import type { RestoreReport, RestoreStart } from '../report/events.ts';
import { Journal } from '../run/journal.ts';
import type { Rollback } from '../run/state.ts';
import { startTimer } from '../run/timer.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import type { Consent, PreviewSummary, RestoreDeps } from './context.ts';
import { endJournals } from './end-journal.ts';
import { conclude, whileInPlace } from './finish.ts';
import { lockForRestore } from './lock.ts';
import { emptyReport } from './part.ts';
import { inCopy, nameToConfirm, noteLines, replacedLines, serviceLines, summariseServices } from './preview.ts';
import { inTurn, type KeptData, type Run, type Work } from './rollback-data.ts';
import { reportHealth } from './service-health.ts';
import { containersUsing, NO_SERVICES, type Services, serviceNotes, withStopped } from './services.ts';

export interface RollbackRequest extends Consent {
  /** id of a restore, or the start of one; absent: the newest restore that can be rolled back */
  id?: string;
  /** only of this source */
  source?: string;
  /** show the effects, and change nothing */
  dryRun?: boolean;
}

/** The result of a rollback. */
export interface RollbackResult extends RestoreReport {
  /** what the preview showed */
  preview: Pick<PreviewSummary, 'replaces' | 'stops' | 'alsoConnected' | 'alsoWriting'>;
}

/**
 * Brings back the data that a restore replaced, and puts the restored data aside. The same command reverses that.
 *
 * @throws NOTHING_TO_ROLL_BACK, NOT_CONFIRMED (also by `refuseOlder`), PG_TARGET_BUSY; USAGE if another restore has to
 * be rolled back first (see `refuseOutOfTurn`); the errors of a session
 */
export async function rollback(deps: RestoreDeps, request: RollbackRequest): Promise<RollbackResult> {
  await refuseOlder(deps, request);
  return withRollback(deps, request, {
    skips: true,
    work: (run) => rollBackOne(deps, request, run),
    withoutSource(chosen, why) {
      const hint = `${why.hint ?? ''} \`lifeboat rollback ${chosen.id} --forget\` removes the record of the old data.`;
      throw new LifeboatError('SOURCE_UNKNOWN', why.message, { hint: hint.trim() });
    },
  });
}

async function rollBackOne(
  deps: RestoreDeps,
  request: RollbackRequest,
  { journal, chosen, kept, missing, all }: Run,
): Promise<RollbackResult> {
  const startedAt = deps.now();
  const ended = startTimer(deps.now, startedAt);
  const start: RestoreStart = {
    id: journalId(journal),
    project: deps.project,
    verb: 'rollback',
    source: chosen.source,
    target: chosen.source,
    snapshot: chosen.snapshot,
    start: startedAt.toISOString(),
  };
  refuseOutOfTurn(
    chosen,
    all.filter(({ id }) => !missing.has(id)),
  );
  // A newer restore may have turned out to be cut off, or its data to be missing.
  await refuseIfOlder(deps, request, chosen);
  await kept.check(chosen);
  const now = chosen.inUse === 'restored' ? 'the data from before that restore' : 'the restored data';
  request.say(`Rollback of ${chosen.source}${inCopy(deps)}: brings back ${now} (${madeAgo(chosen, startedAt)})`);
  const replaces = replacedText(chosen, await kept.describe(chosen));
  for (const line of replacedLines(request, replaces, chosen)) request.say(line);
  const services = await servicesToStop(deps, request, chosen, kept);
  for (const line of serviceLines(services, { will: request.dryRun ? 'would' : 'will' })) request.say(line);
  const preview = { ...summariseServices(services), replaces };
  const created = createdNotes(chosen.group === undefined ? [chosen] : []);
  for (const line of noteLines(created)) request.say(line);
  const warnings = [...serviceNotes(services), ...created];
  if (request.dryRun) return { ...emptyReport(deps, start, warnings), of: chosen.id, preview };
  await request.confirm(nameToConfirm(deps, chosen.source));
  journal.record({ type: 'begun', restore: start, from: { id: chosen.id, inUse: chosen.inUse } });
  deps.dispatcher.emit({ type: 'restore-started', restore: start });
  return {
    ...(await swapBack({ ...deps, ended }, request, { journal, chosen, kept, services, warnings }, start)),
    preview,
  };
}

/**
 * Drops old data: the replaced data after a restore, the restored data after a rollback.
 *
 * @throws NOTHING_TO_ROLL_BACK, NOT_CONFIRMED
 */
export async function forget(deps: RestoreDeps, request: RollbackRequest): Promise<Rollback> {
  const removeRecord = async ({ id }: Rollback) =>
    deps.state.saveRollbacks((await deps.state.rollbacks()).filter((one) => one.id !== id));
  const confirmed = async (chosen: Rollback, line: string) => {
    request.say(line);
    if (!request.dryRun) await request.confirm(nameToConfirm(deps, chosen.source));
    return !request.dryRun;
  };
  return withRollback(deps, request, {
    skips: false,
    async first(chosen, run) {
      const lost = await findLostSwap(deps, chosen, run);
      if (!lost) return undefined;
      const line = `Forget restore ${chosen.id} of ${chosen.source}${inCopy(deps)}: its swap was cut off, and cannot be reversed, because ${WHY_MISSING[lost.missing]}. Lifeboat will take the volume as it is, although it may mix old and new data`;
      if (!(await confirmed(chosen, line))) return chosen;
      lost.accept();
      await removeRecord(chosen);
      // Starts the services that had to wait.
      await deps.recover();
      return chosen;
    },
    async work({ chosen, kept, missing }) {
      const what = chosen.inUse === 'restored' ? 'the data that it replaced' : 'the restored data';
      const isElsewhere = missing.get(chosen.id) === 'volume';
      const dropped = isElsewhere ? '' : asideText(await kept.describe(chosen));
      const made = madeAgo(chosen, deps.now());
      const line = isElsewhere
        ? `Forget restore ${chosen.id} of ${chosen.source}${inCopy(deps)}: removes only the record, because ${WHY_MISSING.volume}. ${whereItStays(chosen)}`
        : `Forget ${made}, of ${chosen.source}${inCopy(deps)}: permanently drops ${what}: ${dropped}`;
      if (!(await confirmed(chosen, line))) return chosen;
      if (!isElsewhere) await kept.drop(chosen);
      await removeRecord(chosen);
      return chosen;
    },
    async withoutSource(chosen, why) {
      const line = `Forget restore ${chosen.id} of ${chosen.source}${inCopy(deps)}: removes only the record, because ${why.message}. ${whereItStays(chosen)}`;
      if (await confirmed(chosen, line)) await removeRecord(chosen);
      return chosen;
    },
  });
}

/**
 * Finds the rollback that the request means, and calls `work` with it. Removes records of rollbacks whose data is gone.
 * Makes records for old data in volumes if none matches the request, because the spool may have been lost.
 */
async function withRollback<T>(given: RestoreDeps, request: RollbackRequest, how: Work<T>): Promise<T> {
  const deps = request.dryRun ? withoutSaving(given) : given;
  const id = newSnapshotId(deps.now());
  nameRun(id);
  const records = async (own: RestoreDeps) => {
    if (matching(await own.state.rollbacks(), request).length === 0)
      await recordUnrecorded(own, { runId: id, signal: request.signal });
    return own.state.rollbacks();
  };
  const lock = await lockForRestore(deps, {
    ask: request.canConfirm && !request.dryRun,
    check: async () => chooseRollback(await records(withoutSaving(given)), request),
  });
  try {
    await deps.recover();
    const chosen = how.first && chooseRollback(await records(deps), request);
    const done = chosen && (await how.first?.(chosen, { runId: id, signal: request.signal }));
    if (done !== undefined) return done;
    await records(deps);
    const journal = new Journal(deps.journals, { type: 'start', verb: 'restore', id, agent: deps.agentId });
    try {
      return await inTurn({ deps, request, journal, id }, how);
    } finally {
      await endJournals(deps, [journal], request.signal);
    }
  } finally {
    await lock.release();
  }
}

function journalId({ file }: Journal): string {
  return (file.split('/').at(-1) as string).replace(/\.ndjson$/, '');
}

async function servicesToStop(
  deps: RestoreDeps,
  { stopServices }: RollbackRequest,
  chosen: Rollback,
  kept: KeptData,
): Promise<Services> {
  if (!stopServices) return NO_SERVICES;
  const clients = await kept.clients?.(chosen);
  const { planned, server } = kept;
  const data = [{ target: planned, clients }, ...(server ? [{ target: server }] : [])];
  return containersUsing(deps.engine, data, deps.agentId);
}

async function swapBack(
  deps: RestoreDeps & { ended(): Date },
  request: RollbackRequest,
  {
    journal,
    chosen,
    kept,
    services,
    warnings,
  }: Pick<Run, 'journal' | 'chosen' | 'kept'> & {
    services: Services;
    warnings: string[];
  },
  start: RestoreStart,
): Promise<RestoreReport> {
  const report: RestoreReport = {
    ...start,
    end: start.start,
    status: 'ok',
    restored: [],
    steps: [],
    checks: [],
    canRollBack: true,
    of: chosen.id,
    warnings,
  };
  let ending: unknown;
  try {
    const { checks, stoppedMs } = await withStopped({
      containers: services.using,
      deps: deps.holdDeps(journal),
      signal: request.signal,
      needed: kept.planned.kind === 'postgres' ? [kept.planned.containerId] : [],
      work: async () => {
        const { swapMs, restored, canRollBack, warnings } = await kept.swap(chosen);
        // Recorded at once: the data is swapped, whatever fails later.
        if (swapMs !== undefined) report.withoutDataMs = Math.round(swapMs);
        Object.assign(report, { restored, canRollBack });
        report.warnings.push(...warnings);
      },
    });
    report.checks.push(...checks);
    if (stoppedMs !== undefined) report.stoppedMs = stoppedMs;
    const questions = { replaced: [kept.planned], healthUrl: request.healthUrl };
    await reportHealth(deps, questions, request.signal, report);
  } catch (error) {
    ending = request.signal.aborted && !isHalfRestored(error) ? request.signal.reason : error;
  }
  const failure = ending === undefined ? undefined : whileInPlace(ending, report);
  await conclude({ ...deps, journal, signal: request.signal }, deps.repository, report, failure);
  if (failure !== undefined) throw failure;
  return report;
}
