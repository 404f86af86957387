import type { Log } from '../base/log.ts';
import type { Destination } from '../destinations/destination.ts';
import type { Engine } from '../docker/engine.ts';
import type { HelperLimits } from '../docker/helper.ts';
import type { Settings } from '../plan/settings.ts';
import { createTreeStore, type TreeStore } from '../trees/runner.ts';
import { helperSettings } from './destinations.ts';
import type { Self } from './own-container.ts';

/** The agent, as helpers need it. */
interface TreeStoreContext {
  engine: Engine;
  log: Log;
  project: string;
  self: Self;
}

/** Returns the store of trees at the destination that the settings name. */
export function treeStoreAt(
  { engine, log, project, self }: TreeStoreContext,
  settings: Settings,
  destination: Destination,
  limits?: HelperLimits,
): TreeStore {
  const { id, imageId, mounts } = self.facts;
  const helper = helperSettings(settings);
  return createTreeStore({
    ...{ engine, log, project, stallTimeoutMs: settings.stallTimeoutMs },
    repository: { destination, keys: settings.keys },
    agent: { id, imageId, mounts },
    helperEnv: helper.open,
    helperSecrets: helper.secret,
    helperPlace: helper.place,
    limits,
  });
}
