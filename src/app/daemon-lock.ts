import { type HelperLabels, WAL_RUN } from '../docker/helper-labels.ts';
import { isLocked } from '../run/process-lock.ts';
import type { Environment } from './environment.ts';

/** Receivers of WAL live as long as the daemon that started them. */
export function keepReceivers(
  { project, self }: Environment,
  keep: (helper: HelperLabels) => boolean | Promise<boolean>,
): (helper: HelperLabels) => Promise<boolean> {
  return async (helper) => {
    if (helper.runId !== WAL_RUN || helper.agent !== self.facts.id) return keep(helper);
    return isLocked(daemonLock(project));
  };
}

/** Returns the name of the lock of a project's daemon. */
export function daemonLock(project: string): string {
  return `daemon of ${project}`;
}
