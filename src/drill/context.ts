import type { Log } from '../base/log.ts';
import type { HelperLimits } from '../docker/helper.ts';
import type { Mount, PlannedSource } from '../plan/model.ts';
import type { DrillSettings } from '../plan/values/drill-settings.ts';
import type { DrillResult } from '../report/drill-report.ts';
import type { RestoreContext, RestoreDeps } from '../restore/context.ts';
import type { Aim, PointDeps } from '../restore/point/find-start.ts';
import type { AgentContext } from '../sources/postgres/server/tools.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { DrillPlace } from './places.ts';

/** The dependencies of a drill. */
export interface DrillDeps extends RestoreDeps {
  agent: AgentContext;
  /** image of the agent's container */
  agentImage: string;
  /** `cpus`: processors that each restored server, and each smoke test, may use */
  settings: DrillSettings & { cpus: number };
  /** name of the place that holds the repository */
  place: string;
  /** copies of the repository, to read in turn if it cannot be read; none if another place was asked for */
  copies: readonly DrillPlace[];
  /** the agent's own repository, even if another one is read; undefined if it cannot be opened */
  ownRepository(): Promise<Repository | undefined>;
  /** what the agent remembers of the stored WAL of a source */
  remembered: PointDeps['remembered'];
}

/** The processes and threads that each container of a drill may have. */
const PIDS = 512;

/** Returns what each container of a drill may use. */
export function limitsOf({ settings }: Pick<DrillDeps, 'settings'>): Required<HelperLimits> {
  return { cpus: settings.cpus, memory: settings.memory, pids: PIDS };
}

export interface DrillRequest {
  /** names of sources; empty: all sources of the plan */
  sources: readonly string[];
  /** `latest`, the id of a snapshot, or the start of one */
  snapshot: string;
  /** restore everything at the same time, and run `lifeboat.drill.health` */
  stack: boolean;
  /** a point in time to recover servers to */
  aim?: Aim;
  trigger: 'schedule' | 'manual';
  /** who asks */
  by?: string;
  /** with a signing key: accept a snapshot without a signature */
  unsigned: boolean;
  signal: AbortSignal;
  /** Shows the user one line about the progress. */
  say(line: string): void;
}

/** Restored data that is in use: the container of a server, or a volume. */
export type RestoredData = { kind: 'server'; container: string } | { kind: 'volume'; volume: Mount };

/** The drill of one source in progress. */
export interface Part {
  source: string;
  /** the source in the present plan; absent if it has none */
  planned: PlannedSource | undefined;
  context: RestoreContext;
  /** Called with the restored data at the end of the drill, before it is removed; only for the whole stack. */
  whileUp?(up: RestoredData): Promise<void>;
  /** filled by the steps */
  result: DrillResult;
  log: Log;
  /** when the time of the drill is up, by `performance.now()`. The signal aborts then. */
  until: number;
  signal: AbortSignal;
  say(line: string): void;
}

/** Runs a step, and adds its duration to the result. */
export async function step<T>({ result, say }: Pick<Part, 'result' | 'say'>, name: string, work: () => Promise<T>) {
  say(`  ${name}`);
  const begin = performance.now();
  try {
    return await work();
  } finally {
    result.steps.push({ name, durationMs: Math.round(performance.now() - begin) });
  }
}
