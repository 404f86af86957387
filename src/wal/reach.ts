import type { BaseSource } from '../plan/model.ts';
import {
  type ReplicationFacts,
  readReplicationFacts,
  replicationProblem,
} from '../sources/postgres/wal/replication.ts';
import { readSlot, type SlotState, slotName } from '../sources/postgres/wal/slot.ts';
import type { Watched } from './lookout.ts';
import type { ReceiverDeps } from './receiver-deps.ts';

/** A server that was reached. */
export interface Reached extends Watched {
  facts: ReplicationFacts;
  /** id of the agent's memory */
  home: string;
  /** the slot when the connection was made */
  before: SlotState;
}

interface ReachOptions extends Pick<Watched, 'tools' | 'session' | 'directory'> {
  deps: Pick<ReceiverDeps, 'home' | 'project'>;
  source: Pick<BaseSource, 'server'>;
}

/**
 * Asks a server for what does not need the repository.
 *
 * @throws PG_REPLICATION for a standby; the errors of queries
 */
export async function reach({ deps, source, ...connection }: ReachOptions): Promise<Reached> {
  const facts = await readReplicationFacts(connection.session);
  const home = await deps.home();
  const slot = slotName(home, deps.project, source.server);
  // A standby does not say where its WAL ends.
  const standby = facts.inRecovery ? replicationProblem(facts, false) : undefined;
  if (standby) throw standby;
  return { ...connection, slot, facts, home, before: await readSlot(connection.session, slot) };
}
