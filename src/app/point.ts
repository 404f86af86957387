import { createDispatcher } from '../report/dispatch.ts';
import { type PointDeps, type PointRequest, type PointResult, restoreToPoint } from '../restore/point/restore-point.ts';
import {
  type PointSnapshotDeps,
  type PointSnapshotRequest,
  snapshotOfPoint,
} from '../restore/point/snapshot-of-point.ts';
import { openReceiverMemory } from '../wal/receiver-state.ts';
import type { Environment } from './environment.ts';
import { importDepsOf } from './import-wiring.ts';
import { runDepsOf } from './wiring.ts';

/** Recovers a server into a new volume. Throws like {@link restoreToPoint}. */
export function restorePoint(environment: Environment, request: PointRequest): Promise<PointResult> {
  return restoreToPoint(pointDepsOf(environment), request);
}

/** Makes a snapshot of a server as it was. Throws like {@link snapshotOfPoint}. */
export function snapshotPoint(environment: Environment, request: PointSnapshotRequest): Promise<string> {
  return snapshotOfPoint(pointSnapshotDepsOf(environment), request);
}

/** Returns the dependencies of a snapshot of a server as it was at a point in time. */
function pointSnapshotDepsOf(environment: Environment): PointSnapshotDeps {
  const { agent, treeStore } = environment;
  const deps = importDepsOf(environment, []);
  return { ...deps, agent, treeStore, confirmed: pointDepsOf(environment).confirmed };
}

/** Returns the dependencies of a recovery to a point in time. */
export function pointDepsOf(environment: Environment): PointDeps {
  const { engine, agent, treeStore, state, log, otherRepository } = environment;
  const memory = openReceiverMemory(state.directory);
  const { journals, spool, agentId, recover, clear, now } = runDepsOf(environment, createDispatcher([], { log }));
  return {
    ...{ engine, agent, treeStore, log, journals, spool, agentId, recover, clear, now },
    lock: environment.lock,
    repository: () => environment.repository({ create: false }),
    confirmed: async (source) => {
      const known = otherRepository ? undefined : await memory.state(source);
      return known?.confirmed && known.systemId ? { [known.systemId]: known.confirmed } : {};
    },
  };
}
