import { mkdir, mkdtemp, readdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, hasErrno, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { removePath } from '../store/filesystem/remove-tree.ts';

/**
 * Returns SPOOL_FULL for a bare ENOSPC or EDQUOT, and any other error unchanged. Destinations and restore targets have
 * codes of their own, so a bare error comes from the spool, which holds journal, dump and index.
 */
export function spoolError(error: unknown): unknown {
  if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) return error;
  return new LifeboatError('SPOOL_FULL', 'the spool has no space left', {
    cause: error,
    hint: 'Free space on the disk of the volume mounted at /spool, or mount a larger one there.',
  });
}

/** Dependencies of {@link clearDirectory}. */
interface ClearDeps {
  /** resolves to whether a helper of that run still exists: without an engine, none does; rejects if unknown */
  hasHelpers(runId: string): Promise<boolean>;
  log: Log;
}

/**
 * Removes a directory of a run, however deep it is and whatever a helper planted there. While a helper of the run
 * exists and could write there, recovery removes the directory later. Never rejects: a failure is logged, and recovery
 * tries again.
 */
export async function clearDirectory(directory: string, runId: string, { hasHelpers, log }: ClearDeps): Promise<void> {
  try {
    if (await hasHelpers(runId)) log.warn('a helper still runs, so its directory is left for recovery', { directory });
    else await removePath(path.dirname(directory), path.basename(directory));
  } catch (error) {
    log.warn('a directory in the spool could not be removed', { directory, ...errorInfo(error) });
  }
}

const LOOK = 'look-';

/** The longest time that a read-only command may need its directory, milliseconds. */
const LOOK_LIMIT_MS = 24 * 3_600_000;

/**
 * Calls `work` with an empty directory inside `runs`, the directory of runs in the spool, and removes it afterwards.
 * For read-only commands, which have neither a run nor the lock. The directory of a killed command is removed when it
 * is old, see {@link isLookUnderWay}.
 */
export async function withLookDirectory<T>(runs: string, work: (directory: string) => Promise<T>): Promise<T> {
  await mkdir(runs, { recursive: true, mode: 0o700 });
  const directory = await mkdtemp(path.join(runs, `${LOOK}${Date.now()}-`));
  try {
    return await work(directory);
  } finally {
    await removePath(runs, path.basename(directory));
  }
}

/** Returns whether a name is that of a directory of {@link withLookDirectory} that may be in use at `now`. */
export function isLookUnderWay(name: string, now: Date): boolean {
  if (!name.startsWith(LOOK)) return false;
  return Math.abs(now.getTime() - Number.parseInt(name.slice(LOOK.length), 10)) < LOOK_LIMIT_MS;
}

/**
 * Empties the directory of runs, except for names that `keep` accepts and read-only commands at work. Never rejects;
 * logs failures.
 */
export async function emptySpool(
  { spool, now, log }: { spool: string; now(): Date; log: Log },
  keep: (name: string) => boolean,
): Promise<void> {
  for (const name of await readdir(spool).catch(() => [])) {
    if (keep(name) || isLookUnderWay(name, now())) continue;
    await removePath(spool, name).catch((error: unknown) =>
      log.warn('a directory in the spool could not be removed', { name, ...errorInfo(error) }),
    );
  }
}
