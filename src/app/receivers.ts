import path from 'node:path';
import type { BackupRequest } from '../backup/context.ts';
import { hasCode } from '../base/errors.ts';
import { WalFeed } from '../copy/wal-feed.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { WAL_RUN } from '../docker/helper-labels.ts';
import { reapHelpers } from '../docker/remove-helper.ts';
import type { BaseSource } from '../plan/model.ts';
import type { RunReport } from '../report/events.ts';
import { SPOOL } from '../run/mounts.ts';
import { isLocked } from '../run/process-lock.ts';
import type { Alarms } from '../targets/alarms.ts';
import { LeftSlots } from '../wal/left-slots.ts';
import { LeftWal } from '../wal/left-wal.ts';
import type { ReceiverDeps } from '../wal/receiver-deps.ts';
import { openReceiverMemory } from '../wal/receiver-state.ts';
import { Receivers } from '../wal/receivers.ts';
import type { Environment } from './environment.ts';

/** Starts a command in the Lifeboat container. */
const EXEC = 'docker compose exec lifeboat lifeboat';

/** Creates the receivers of the daemon. They start with the first plan that has a source for them. */
export function createReceivers(
  environment: Environment,
  backup: (request: BackupRequest) => Promise<RunReport>,
  alarms: Alarms,
): Receivers {
  const { project, state, settings, log, now, own, engine } = environment;
  const memory = openReceiverMemory(state.directory);
  const makeBase = (source: BaseSource, isNeeded: () => Promise<boolean>, signal: AbortSignal) =>
    makeBaseIf(isNeeded, (confirm) =>
      backup({ trigger: 'catch-up', only: ({ name }) => name === source.name, confirm, signal }),
    );
  const { openTools } = environment;
  const feed = new WalFeed({
    ...{ copies: environment.copies, state, memory, log, stallTimeoutMs: settings.stallTimeoutMs },
    main: () => own.repository(),
    isBusy: () => isLocked(project),
  });
  const deps: ReceiverDeps = {
    ...{ project, memory, log, now, makeBase, home: state.home, stallTimeoutMs: settings.stallTimeoutMs },
    alarm: (topic, source, error) => alarms.raise({ topic, source, error, next: `${EXEC} windows ${source}` }),
    alarmOver: (source) => alarms.end('wal', source),
    spool: path.join(SPOOL, 'wal'),
    repository: () => own.repository(),
    openTools,
    feed: (page) => feed.note(page),
  };
  return new Receivers(() => deps, {
    waiting: new LeftWal(deps),
    log,
    stopFeed: () => feed.stop(),
    left: new LeftSlots({ project, memory, log, now, openTools, find: (name) => findRunning(engine, name) }),
    // Those of an earlier daemon, which nobody supervises.
    clear: async () => {
      await reapHelpers(
        engine,
        project,
        ({ runId, agent }) => runId !== WAL_RUN || agent !== environment.self.facts.id,
        log,
      );
    },
  });
}

/**
 * Makes a base backup, unless a run that ended meanwhile made one. Resolves to false if another run is under way.
 *
 * @param make calls its argument under the lock, before it makes anything, and rejects with what that throws
 */
export async function makeBaseIf(
  isNeeded: () => Promise<boolean>,
  make: (confirm: () => Promise<void>) => Promise<unknown>,
): Promise<boolean> {
  const unneeded = Symbol('unneeded');
  try {
    await make(async () => {
      if (!(await isNeeded())) throw unneeded;
    });
  } catch (error) {
    if (hasCode(error, 'LOCKED')) return false;
    if (error !== unneeded) throw error;
  }
  return true;
}

async function findRunning(
  engine: Engine,
  name: string,
): Promise<{ containerId: string; imageId: string } | undefined> {
  try {
    const { id, imageId, running } = await engine.inspectContainer(name);
    return running ? { containerId: id, imageId } : undefined;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
