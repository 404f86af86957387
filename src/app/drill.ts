import type { DrillRequest } from '../drill/context.ts';
import { drill } from '../drill/drill.ts';
import type { DrillReport } from '../report/drill-report.ts';
import type { Listener } from '../report/events.ts';
import type { Environment } from './environment.ts';
import { pointDepsOf } from './point.ts';
import { restoreDepsOf } from './wiring.ts';

/** Runs a drill. Throws like {@link drill}. */
export function runDrill(
  environment: Environment,
  request: DrillRequest,
  listeners?: readonly Listener[],
): Promise<DrillReport> {
  const { agent, self, settings } = environment;
  const deps = restoreDepsOf(environment, listeners);
  const { remembered } = pointDepsOf(environment);
  const ownRepository = () => environment.own.repository({ create: false }).catch(() => undefined);
  const own = { agent, agentImage: self.facts.imageId, settings: settings.drill, remembered, ownRepository };
  return drill({ ...deps, ...own }, request);
}
