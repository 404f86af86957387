import type { PlannedSource } from '../plan/model.ts';
import { isNewest } from '../report/drill-proof.ts';
import type { DrillAsked, DrillResult, DrillTarget } from '../report/drill-report.ts';

/**
 * Compares what a drill measured of a source with its targets. The loss of work counts for what a recovery would use: a
 * server with recovery to a point in time loses what came after its write-ahead log, and not what came after its last
 * snapshot.
 *
 * @param result of the drill
 * @param plan the present plan, which has the targets
 * @param asked what the drill was asked for: a chosen snapshot says nothing about the loss of work
 */
export function judgeTargets(
  result: DrillResult,
  plan: readonly PlannedSource[],
  asked: DrillAsked,
): Pick<DrillResult, 'rpo' | 'rto'> {
  const { source, status, ageMs, restoreMs, share } = result;
  const planned = plan.find(({ name }) => name === source);
  const isPoint = planned?.kind === 'base' || asked.at !== undefined;
  const own = planned?.kind === 'base' ? plan.find(({ name }) => name === planned.server) : planned;
  const isRecoverable = plan.some((one) => one.kind === 'base' && one.server === source);
  const judge = (targetMs: number | undefined, measuredMs: number | undefined): DrillTarget | undefined =>
    targetMs === undefined ? undefined : { targetMs, met: measuredMs === undefined ? null : measuredMs <= targetMs };
  const rpo = judge(
    isRecoverable && !isPoint ? undefined : own?.rpoMs,
    status === 'ok' && isNewest(asked) ? ageMs : undefined,
  );
  const rto = judge(own?.rtoMs, status === 'ok' && share === undefined ? restoreMs : undefined);
  return { ...(rpo ? { rpo } : {}), ...(rto ? { rto } : {}) };
}
