/** Everything mounted here is the source `config`. */
export const CONFIG = '/config';

/** The agent's own volume: unfinished dumps, and the state between runs. */
export const SPOOL = '/spool';
