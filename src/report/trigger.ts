/**
 * The cause of a run. `catch-up`: a scheduled run was missed while the agent was down. `safety`: a restore is about to
 * replace data. `import`: a file of another program, or a server as it was at a point in time.
 */
export type Trigger = 'schedule' | 'catch-up' | 'manual' | 'safety' | 'import';

/** True for a run that stores an old state, which may be smaller than newer data, and reads nothing of the services. */
export function storesPast(trigger: Trigger): boolean {
  return trigger === 'import';
}

/** True for a run that stores the state of the sources in their own turn: no part of a restore, and no old state. */
export function isRegularRun(trigger: Trigger): boolean {
  return trigger !== 'safety' && !storesPast(trigger);
}
