import { errorInfo } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import type { DrillReport } from '../report/drill-report.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import type { Repository } from '../store/repository/repository.ts';
import { saveDrilled } from '../targets/measured.ts';
import type { DrillDeps } from './context.ts';
import { isKnown } from './evidence.ts';
import { storeEvidence } from './seen-evidence.ts';

/**
 * Stores the evidence and notifies. A good drill without evidence is not proven: nobody can show it later.
 *
 * @param place returns the repository for the evidence
 */
export async function conclude(deps: DrillDeps, report: DrillReport, place: () => Promise<Repository>): Promise<void> {
  let repeated = false;
  try {
    const memory = { directory: deps.state.directory, log: deps.log };
    repeated = isKnown(report, await storeEvidence(memory, await place(), report));
  } catch (error) {
    deps.log.warn('the evidence of the drill could not be stored', { drill: report.id, ...errorInfo(error) });
    report.unproven.push(`the evidence of this drill could not be stored: ${errorInfo(error).message}`);
    if (report.status === 'ok') report.status = 'unproven';
  }
  await saveDrilled(deps.state.directory, report).catch((error: unknown) =>
    deps.log.warn('the durations of the drill cannot be remembered', { drill: report.id, ...errorInfo(error) }),
  );
  deps.dispatcher.emit({ type: 'drill-finished', report, ...(repeated ? { repeated } : {}) });
  await deps.dispatcher.flush();
}

/** Reports a scheduled drill that could not begin like one that failed: evidence, if possible, and notifications. */
export async function reportUnbegun(deps: DrillDeps, cause: unknown): Promise<DrillReport> {
  const now = deps.now();
  const report: DrillReport = redactDeep({
    ...({ id: newSnapshotId(now), project: deps.project, trigger: 'schedule', status: 'failed' } as const),
    ...{ start: now.toISOString(), end: now.toISOString(), agentVersion: deps.agentVersion },
    ...{ results: [], unproven: [], error: errorInfo(cause) },
  });
  await conclude(deps, report, deps.repository);
  return report;
}
