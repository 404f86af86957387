import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Plan } from '../plan/model.ts';

/** Returns the present plan and logs what changed, or the former plan if the engine does not answer. */
export async function refreshPlan(
  { plan, log }: { plan(): Promise<Plan>; log: Log },
  former: Plan | undefined,
): Promise<Plan | undefined> {
  try {
    const next = await plan();
    logChanges(log, former, next);
    return next;
  } catch (error) {
    log.warn('containers cannot be listed; trying again when the engine answers', { ...errorInfo(error) });
    return former;
  }
}

function logChanges(log: Log, before: Plan | undefined, after: Plan): void {
  const names = (plan: Plan | undefined) => new Set(plan?.sources.map(({ name }) => name));
  const [old, now] = [names(before), names(after)];
  const added = [...now].filter((name) => !old.has(name));
  const removed = [...old].filter((name) => !now.has(name));
  if (before && (added.length > 0 || removed.length > 0)) log.info('sources changed', { added, removed });
  const known = new Set(before?.problems.map((problem) => JSON.stringify(problem)));
  for (const problem of after.problems) {
    if (known.has(JSON.stringify(problem))) continue;
    log[problem.severity === 'error' ? 'error' : 'warn'](problem.message, { ...problem });
  }
}
