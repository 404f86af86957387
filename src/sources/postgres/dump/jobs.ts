import { availableParallelism } from 'node:os';

/** The tools gain nothing from more jobs than this on one host that also runs the database. */
const MAX_JOBS = 4;

/** How many workers of `pg_dump` to use on this machine: the agent hashes and packs beside them. */
export function dumpJobs(): number {
  return Math.max(2, Math.min(MAX_JOBS, availableParallelism()));
}

/**
 * How many workers of `pg_restore` to use: one more than there are processors, since each waits for the disk at times and
 * nothing else of ours is at work (Postgres docs, pg_restore, `--jobs`: more than processors is often faster).
 */
export function restoreJobs(): number {
  return Math.max(2, Math.min(MAX_JOBS, availableParallelism() + 1));
}
