import type { Log } from '../base/log.ts';
import type { Plan } from '../plan/model.ts';
import type { Dispatcher } from '../report/dispatch.ts';
import type { State } from './state.ts';

/** The dependencies that backups and restores share; wiring.ts creates them. */
export interface RunDeps {
  project: string;
  agentVersion: string;
  /** id of the agent's own container, which no run stops */
  agentId: string;
  /** directory of the journals */
  journals: string;
  /** directory of runs inside the spool */
  spool: string;
  state: State;
  dispatcher: Dispatcher;
  log: Log;
  now(): Date;
  plan(): Promise<Plan>;
  /** Cleans up after dead runs and reports them as failed. Never rejects. */
  recover(): Promise<void>;
  /** Removes the directory of a run in the spool, see `clearDirectory` in spool.ts. Never rejects. */
  clear(directory: string, runId: string): Promise<void>;
}
