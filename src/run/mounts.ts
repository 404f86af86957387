/** What is mounted here is the source `config`. */
export const CONFIG = '/config';

/** Where the agent's own volume is: dumps while they are made, and what is remembered between runs. */
export const SPOOL = '/spool';
