import { LifeboatError } from './errors.ts';
import type { Journal } from './journal.ts';
import type { Lock } from './lock.ts';
import type { Log } from './log.ts';
import type { Mount, Plan, PlannedSource, PostgresSource } from './plan/model.ts';
import type { Tools } from './sources/postgres/tools.ts';
import type { Manifest, ManifestSource } from './store/manifest.ts';
import type { Repository } from './store/repository.ts';
import type { TreeStore } from './tree-store.ts';

export interface RestoreDeps {
  project: string;
  /** id of the agent's own container */
  agentId: string;
  /** keeps every other run of this project away until released; LOCKED when one is under way */
  lock(): Promise<Lock>;
  journals: string;
  /** directory of runs inside the spool */
  spool: string;
  log: Log;
  now(): Date;
  stallTimeoutMs: number;
  agentMounts: readonly Mount[];
  treeStore: TreeStore;
  recover(): Promise<void>;
  plan(): Promise<Plan>;
  repository(): Promise<Repository>;
  openTools(
    source: PostgresSource,
    context: { runId: string; application: string; journal: Journal; signal: AbortSignal },
  ): Promise<Tools>;
}

export interface RestoreRequest {
  /** `latest`, a snapshot's id or the start of one */
  snapshot: string;
  source: string;
  /** one recorded database; absent: all of the snapshot */
  database?: string;
  /** name to restore the database under */
  toDatabase?: string;
  /** directory in the agent to restore a volume or `config` into */
  toDirectory?: string;
  /** create roles that the server lacks */
  globals: boolean;
  signal: AbortSignal;
  /** hears what is being done, a line for people at a time */
  say(line: string): void;
}

export interface RestoreResult {
  snapshot: string;
  source: string;
  /** what was made: database names, or one path or volume */
  restored: { target: string; tables?: number; rows?: number; files?: number; bytes?: number }[];
  /** databases that were left as they are, with the reason */
  left: { database: string; reason: string }[];
  warnings: string[];
  durationMs: number;
}

/** What belongs to one restore. */
export interface RestoreContext {
  id: string;
  journal: Journal;
  directory: string;
  repository: Repository;
  snapshot: Manifest;
  entry: ManifestSource;
}

/** The running container that a source name stands for now. */
export async function restoreTarget<K extends PlannedSource['kind']>(
  deps: RestoreDeps,
  name: string,
  kind: K,
): Promise<PlannedSource & { kind: K }> {
  const plan = await deps.plan();
  const planned = plan.sources.find((source) => source.name === name);
  if (planned?.kind === kind) return planned as PlannedSource & { kind: K };
  const problem = plan.problems.find(({ severity }) => severity === 'error');
  throw new LifeboatError('SOURCE_UNKNOWN', `no running container is ${name}, so there is nothing to restore into`, {
    hint: problem
      ? `The plan has a problem: ${problem.message}.`
      : 'Start it with `docker compose up -d`, or restore with --to-directory DIR.',
  });
}
