/**
 * Label of every helper: its run. It does not begin with `lifeboat.`, so that a helper never looks like a user's
 * container.
 */
export const RUN_LABEL = 'dev.lifeboat.run';
/** Label of every helper: the Compose project that it works for. */
export const PROJECT_LABEL = 'dev.lifeboat.project';
/**
 * Label of every helper: the id of the agent's container. When the agent is gone or has ended, the helper is useless.
 */
export const AGENT_LABEL = 'dev.lifeboat.agent';
/** Takes the place of a run: marks that a run is in progress (see marker.ts). */
export const MARKER_RUN = 'lock';
/** The beginning of the run label of helpers of `lifeboat plan`, which belong to no run. */
export const PROBE_RUN = 'plan-';

/** The run label of the helpers that receive WAL, which live as long as the daemon. */
export const WAL_RUN = 'wal';

/** The labels of a helper. `agent` is empty if an older version created the helper. */
export interface HelperLabels {
  runId: string;
  agent: string;
}
