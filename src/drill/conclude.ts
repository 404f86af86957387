import { errorInfo, LifeboatError } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import type { DrillReport } from '../report/drill-report.ts';
import { newSnapshotId, parseSnapshotId } from '../store/objects/snapshot-id.ts';
import type { Repository } from '../store/repository/repository.ts';
import { saveDrilled } from '../targets/measured.ts';
import type { DrillDeps } from './context.ts';
import { isKnown, readDrill } from './evidence.ts';
import { storeEvidence } from './seen-evidence.ts';

type ConcludeDeps = Pick<DrillDeps, 'log' | 'state' | 'dispatcher'>;

/**
 * Stores the evidence and notifies. A good drill without evidence is not proven: nobody can show it later.
 *
 * @param place returns the repository for the evidence
 */
export async function conclude(
  deps: ConcludeDeps,
  report: DrillReport,
  place: () => Promise<Repository>,
): Promise<void> {
  let repeated = false;
  try {
    const memory = { directory: deps.state.directory, log: deps.log };
    repeated = isKnown(report, await storeEvidence(memory, await place(), report));
  } catch (error) {
    deps.log.warn('the evidence of the drill could not be stored', { drill: report.id, ...errorInfo(error) });
    report.unproven.push(`the evidence of this drill could not be stored: ${errorInfo(error).message}`);
    if (report.status === 'ok') report.status = 'unproven';
  }
  await tell(deps, report, repeated);
}

async function tell(deps: ConcludeDeps, report: DrillReport, repeated: boolean): Promise<void> {
  await saveDrilled(deps.state.directory, report).catch((error: unknown) =>
    deps.log.warn('the durations of the drill cannot be remembered', { drill: report.id, ...errorInfo(error) }),
  );
  deps.dispatcher.emit({ type: 'drill-finished', report, ...(repeated ? { repeated } : {}) });
  await deps.dispatcher.flush();
}

type FailedDeps = ConcludeDeps & Pick<DrillDeps, 'project' | 'agentVersion' | 'now' | 'repository'>;

/** Reports a scheduled drill that could not begin like one that failed: evidence, if possible, and notifications. */
export function reportUnbegun(deps: FailedDeps, cause: unknown): Promise<DrillReport> {
  const now = deps.now();
  return reportFailed(deps, { id: newSnapshotId(now), trigger: 'schedule', start: now }, cause);
}

/**
 * Reports a drill that ended together with the agent. If it had stored its evidence, sends that. If not, its sources
 * are not proven, and nobody knows how far it came.
 */
export async function reportDeadDrill(
  deps: FailedDeps,
  { id, trigger = 'schedule' }: { id: string; trigger?: DrillReport['trigger'] | undefined },
): Promise<void> {
  const stored = await storedReport(deps, id);
  if (stored) return tell(deps, stored, false);
  const error = new LifeboatError('RUN_DIED', 'Lifeboat ended in the middle of the drill', {
    hint: 'Nothing in use was changed. A drill that needs more memory than there is can be the reason.',
  });
  await reportFailed(deps, { id, trigger, start: parseSnapshotId(id)?.date ?? deps.now() }, error);
}

/** A place that cannot be read takes no new evidence either, and the drill is reported in any case. */
async function storedReport({ log, repository }: FailedDeps, id: string): Promise<DrillReport | undefined> {
  try {
    return await readDrill(await repository(), id);
  } catch (error) {
    log.warn('the evidence of a dead drill cannot be looked for', { drill: id, ...errorInfo(error) });
    return undefined;
  }
}

async function reportFailed(
  deps: FailedDeps,
  { id, trigger, start }: { id: string; trigger: DrillReport['trigger']; start: Date },
  cause: unknown,
): Promise<DrillReport> {
  const report: DrillReport = redactDeep({
    ...({ id, project: deps.project, trigger, status: 'failed' } as const),
    ...{ start: start.toISOString(), end: deps.now().toISOString(), agentVersion: deps.agentVersion },
    ...{ results: [], unproven: [], error: errorInfo(cause) },
  });
  await conclude(deps, report, deps.repository);
  return report;
}
