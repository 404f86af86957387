import { mkdir, mkdtemp, readdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, hasErrno, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { removePath } from '../store/filesystem/remove-tree.ts';

/**
 * What a full disk means where a run writes for itself: destinations and restore targets code their own failures, so
 * what arrives as a bare ENOSPC is the spool, with journal, dump and index. Any other error is returned as it is.
 */
export function spoolError(error: unknown): unknown {
  if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) return error;
  return new LifeboatError('SPOOL_FULL', 'the spool has no space left', {
    cause: error,
    hint: 'Free space on the disk of the volume mounted at /spool, or mount a larger one there.',
  });
}

/** What clearing a directory of a run takes. */
interface ClearDeps {
  /** true when a helper of that run still exists; rejects when that is not known */
  hasHelpers(runId: string): Promise<boolean>;
  log: Log;
}

/**
 * Removes a directory of a run, however deep it is and whatever a helper planted there. While a helper of the run exists, it is left
 * to recovery: the helper could write there. Never rejects: a failure is logged, and recovery tries again.
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

/** How long a command that only looks may need its directory at most, milliseconds. */
const LOOK_LIMIT_MS = 24 * 3_600_000;

/**
 * Gives `work` an empty directory inside `runs`, the directory of runs in the spool, and removes it afterwards. For commands that
 * only look, and so have neither a run nor the lock: what is left of one that was killed goes when it is old, see
 * {@link isLookUnderWay}.
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

/** True for the name of a directory of {@link withLookDirectory} that may be in use at `now`. */
export function isLookUnderWay(name: string, now: Date): boolean {
  if (!name.startsWith(LOOK)) return false;
  return Math.abs(now.getTime() - Number.parseInt(name.slice(LOOK.length), 10)) < LOOK_LIMIT_MS;
}

/** Removes what is in the directory of runs, but for what `keep` names and looks that are under way. Never rejects; logs instead. */
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
