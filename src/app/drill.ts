import { cpus } from 'node:os';
import type { HelperLimits } from '../docker/helper.ts';
import { reportUnbegun } from '../drill/conclude.ts';
import { type DrillDeps, type DrillRequest, limitsOf } from '../drill/context.ts';
import { drill } from '../drill/drill.ts';
import type { DrillPlace } from '../drill/places.ts';
import { overdueTurns } from '../drill/turns.ts';
import type { DrillReport } from '../report/drill-report.ts';
import type { Listener } from '../report/events.ts';
import { openElsewhere } from './destinations.ts';
import type { Environment } from './environment.ts';
import { pointDepsOf } from './point.ts';
import { treeStoreAt } from './tree-store.ts';
import { restoreDepsOf } from './wiring.ts';

/** Runs a drill. Throws like {@link drill}. */
export function runDrill(
  environment: Environment,
  request: DrillRequest,
  listeners?: readonly Listener[],
): Promise<DrillReport> {
  return drill(drillDepsOf(environment, listeners), request);
}

/** Returns the request of a scheduled drill: of the newest snapshot of every source. */
export function scheduledDrill(signal: AbortSignal): DrillRequest {
  return {
    ...{ sources: [], snapshot: 'latest', stack: false, trigger: 'schedule', unsigned: false },
    ...{ signal, say: () => undefined },
  };
}

/** Reports a scheduled drill that could not begin, see {@link reportUnbegun}. */
export function reportUnbegunDrill(environment: Environment, cause: unknown): Promise<DrillReport> {
  return reportUnbegun(drillDepsOf(environment), cause);
}

/** Returns the planned sources whose drills have ended early, see {@link overdueTurns}. */
export async function overdueDrills({ plan, state }: Environment, since: Date): Promise<string[]> {
  const { sources } = await plan();
  const names = sources.map(({ name }) => name);
  return overdueTurns(state.directory, names, since);
}

function drillDepsOf(environment: Environment, listeners?: readonly Listener[]): DrillDeps {
  const { agent, self, settings, otherRepository } = environment;
  const { remembered } = pointDepsOf(environment);
  const drilling = { ...settings.drill, cpus: settings.drill.cpus ?? allButOne(cpus().length) };
  const limits = limitsOf({ settings: drilling });
  return {
    ...restoreDepsOf(environment, listeners),
    treeStore: treeStoreAt(environment, settings, environment.destination, limits),
    place: environment.destination.name,
    ...{ agent, agentImage: self.facts.imageId, remembered },
    settings: drilling,
    ownRepository: () => environment.own.repository({ create: false }).catch(() => undefined),
    copies: otherRepository
      ? []
      : settings.copies.map(({ name, location }) => placeAt(environment, { name, location }, limits)),
  };
}

/** Returns a copy as a place to read. */
function placeAt(
  environment: Environment,
  { name, location }: { name: string; location: string },
  limits: HelperLimits,
): DrillPlace {
  const { project } = environment;
  const settings = { ...environment.settings, destination: location };
  const destination = openElsewhere(location, settings, {});
  return {
    name,
    repository: () => environment.openAt(location, destination, { project, create: false }),
    treeStore: treeStoreAt(environment, settings, destination, limits),
  };
}

/** Leaves a processor to the user's services, if there are enough for a restore of the usual speed. */
function allButOne(processors: number): number {
  return processors < 3 ? processors : processors - 1;
}
