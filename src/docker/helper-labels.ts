/**
 * Label of every helper: the run it belongs to. Not under `lifeboat.`, so that no helper looks like a user's container.
 */
export const RUN_LABEL = 'dev.lifeboat.run';
/** Label of every helper: the Compose project it works for. */
export const PROJECT_LABEL = 'dev.lifeboat.project';
/** Label of every helper: the id of the agent's container. With the agent gone or ended, nobody needs the helper. */
export const AGENT_LABEL = 'dev.lifeboat.agent';
/** In place of a run: the marker that a run is under way (see marker.ts). */
export const MARKER_RUN = 'lock';
/** What the run of a helper begins with that belongs to no run but to `lifeboat plan`. */
export const PROBE_RUN = 'plan-';

/** A helper as its labels tell of it. `agent` is empty for one that an older version made. */
export interface HelperLabels {
  runId: string;
  agent: string;
}
