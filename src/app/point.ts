import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
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
import { SPOOL } from '../run/mounts.ts';
import { openReceiverMemory, rememberedIn } from '../wal/receiver-state.ts';
import { warnOfUnstored } from '../wal/unstored.ts';
import type { Environment } from './environment.ts';
import { importDepsOf } from './import-wiring.ts';
import { restoreDepsOf, runDepsOf } from './wiring.ts';

/** A report of a receiver is news for this time, milliseconds. */
const RECENT_MS = 60_000;

/** Recovers a server into a new volume. Throws like {@link restoreToPoint}. */
export async function restorePoint(environment: Environment, request: PointRequest): Promise<PointResult> {
  await warnOfWaiting(environment, request);
  return restoreToPoint(pointDepsOf(environment), request);
}

/** Makes a snapshot of a server as it was. Throws like {@link snapshotOfPoint}. */
export async function snapshotPoint(environment: Environment, request: PointSnapshotRequest): Promise<string> {
  await warnOfWaiting(environment, request);
  return snapshotOfPoint(pointSnapshotDepsOf(environment), request);
}

/** Recovers a server in place. Throws like {@link restoreInPlace}. */
export async function restorePointInPlace(
  environment: Environment,
  request: InPlaceRequest,
  listeners: readonly Listener[],
): Promise<RestoreResult> {
  await warnOfWaiting(environment, request);
  const { agent, state } = environment;
  const { remembered } = pointDepsOf(environment);
  const memory = openReceiverMemory(state.directory);
  const deps = restoreDepsOf(environment, listeners);
  const { state: stored, saveReplacement: replacing } = memory;
  return restoreInPlace({ ...deps, agent, remembered, stored, replacing }, request);
}

/**
 * Says that the latest point is not what the server wrote last, if WAL waits in the spool. While a receiver works, it
 * waits for seconds only. Rejects only when the signal aborts.
 */
async function warnOfWaiting(
  { log, otherRepository, repository, state }: Environment,
  { source, target, signal }: Pick<PointRequest, 'source' | 'target' | 'signal'>,
): Promise<void> {
  if (target !== 'latest' || otherRepository) return;
  try {
    const receiver = await openReceiverMemory(state.directory).state(source);
    const isWorking = receiver?.state === 'receiving' && Date.now() - Date.parse(receiver.at ?? '') < RECENT_MS;
    if (isWorking) return;
    const where = { spool: path.join(SPOOL, 'wal'), source, log, repository: await repository({ create: false }) };
    await warnOfUnstored(where, signal);
  } catch (error) {
    signal.throwIfAborted();
    log.debug('nobody knows whether WAL waits in the spool', { source, ...errorInfo(error) });
  }
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
    ...{ engine, agent, treeStore, state, log, journals, spool, agentId, recover, clear, now, plan },
    lock: environment.lock,
    repository: () => environment.repository({ create: false }),
    remembered: otherRepository ? async () => undefined : rememberedIn(state.directory),
  };
}
