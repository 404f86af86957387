import { createDispatcher } from '../report/dispatch.ts';
import type { Listener } from '../report/events.ts';
import type { RestoreResult } from '../restore/context.ts';
import { restoreInPlace } from '../restore/point/in-place.ts';
import type { InPlaceRequest } from '../restore/point/prepare-in-place.ts';
import {
  type PointRequest,
  type PointResult,
  restoreToPoint,
  type ToVolumeDeps,
} from '../restore/point/restore-point.ts';
import {
  type PointSnapshotDeps,
  type PointSnapshotRequest,
  snapshotOfPoint,
} from '../restore/point/snapshot-of-point.ts';
import { openReceiverMemory, rememberedIn } from '../wal/receiver-state.ts';
import type { Environment } from './environment.ts';
import { importDepsOf } from './import-wiring.ts';
import { restoreDepsOf, runDepsOf } from './wiring.ts';

/** Recovers a server into a new volume. Throws like {@link restoreToPoint}. */
export function restorePoint(environment: Environment, request: PointRequest): Promise<PointResult> {
  return restoreToPoint(pointDepsOf(environment), request);
}

/** Makes a snapshot of a server as it was. Throws like {@link snapshotOfPoint}. */
export function snapshotPoint(environment: Environment, request: PointSnapshotRequest): Promise<string> {
  return snapshotOfPoint(pointSnapshotDepsOf(environment), request);
}

/** Recovers a server in place. Throws like {@link restoreInPlace}. */
export function restorePointInPlace(
  environment: Environment,
  request: InPlaceRequest,
  listeners: readonly Listener[],
): Promise<RestoreResult> {
  const { agent, state } = environment;
  const { remembered } = pointDepsOf(environment);
  const memory = openReceiverMemory(state.directory);
  const deps = restoreDepsOf(environment, listeners);
  const { state: stored, saveReplacement: replacing } = memory;
  return restoreInPlace({ ...deps, agent, remembered, stored, replacing }, request);
}

/** Returns the dependencies of a snapshot of a server as it was at a point in time. */
function pointSnapshotDepsOf(environment: Environment): PointSnapshotDeps {
  const { agent, treeStore } = environment;
  const deps = importDepsOf(environment, []);
  return { ...deps, agent, treeStore, remembered: pointDepsOf(environment).remembered };
}

/** Returns the dependencies of a recovery to a point in time. */
export function pointDepsOf(environment: Environment): ToVolumeDeps {
  const { engine, agent, treeStore, state, log, otherRepository } = environment;
  const { journals, spool, agentId, recover, clear, now, plan } = runDepsOf(environment, createDispatcher([], { log }));
  return {
    ...{ engine, agent, treeStore, log, journals, spool, agentId, recover, clear, now, plan },
    lock: environment.lock,
    repository: () => environment.repository({ create: false }),
    remembered: otherRepository ? async () => undefined : rememberedIn(state.directory),
  };
}
