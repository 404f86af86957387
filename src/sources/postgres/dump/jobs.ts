import { availableParallelism } from 'node:os';

/** The most jobs: more do not make the tools faster on a host that also runs the database. */
const MAX_JOBS = 4;

/** Returns the number of `pg_dump` workers for this machine. */
export function dumpJobs(): number {
  return Math.max(2, Math.min(MAX_JOBS, availableParallelism()));
}

/**
 * Returns the number of `pg_restore` workers for this machine: one more than it has processors, because workers
 * sometimes wait for the disk and the agent is idle. According to the Postgres docs (pg_restore, `--jobs`), more
 * workers than processors are often faster.
 */
export function restoreJobs(): number {
  return Math.max(2, Math.min(MAX_JOBS, availableParallelism() + 1));
}
