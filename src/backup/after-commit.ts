import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { listOnce } from '../destinations/list-once.ts';
import type { Problem } from '../plan/model.ts';
import { isCopyOk } from '../report/copy-text.ts';
import { doubtedText, forgetHint, LIST_HINT, PRUNE, unreadText } from '../report/prune-text.ts';
import { storesPast } from '../report/trigger.ts';
import { MAKES_ROOM } from '../run/process-lock.ts';
import type { Prepared, Run } from './begin.ts';
import type { BackupDeps, BackupRequest } from './context.ts';
import type { Ending } from './report.ts';

/** The longest time that a Node timer can wait, milliseconds. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Brings the copies up to date after the commit, then prunes. A copy that is behind makes a good run partly failed. A
 * run that stored something prunes even if other sources failed or the plan has problems, because retention protects
 * what it must (see keep.ts). A run that stored nothing removes nothing, and neither does one during which the clock
 * was set. Never rejects.
 */
export async function copyAndPrune(
  deps: BackupDeps,
  request: BackupRequest,
  { prepared, log, clockJump, atCommit }: Run,
  ending: Ending,
): Promise<void> {
  const { trigger, only, signal } = request;
  // A restore waits for its safety snapshot; the next run copies it.
  if (trigger === 'safety' || signal.aborted || !prepared) return;
  const { plan, repository, lease } = prepared;
  // A person who backs up single sources may be about to inspect the snapshots, so that run does not prune.
  const wanted = ending.snapshot !== undefined && !storesPast(trigger) && !(trigger === 'manual' && only);
  const jump = wanted ? clockJump() : undefined;
  if (jump) ending.problems.push(warningOf(jump, jump.message));
  const prune = wanted && !jump;
  const copies = await copyWhileThereIsTime(deps, request, { plan, repository, lease, prune, clockJump });
  if (copies.length > 0) ending.copies = copies;
  // A copy that is the destination itself is reported as an error. Its retention may be the longer one, so nothing is
  // pruned.
  const isCopyToo = copies.some(({ isDestination }) => isDestination);
  // Copying may take hours.
  const later = prune ? clockJump() : undefined;
  if (later) ending.problems.push(warningOf(later, later.message));
  if (prune && !later && !isCopyToo && !signal.aborted) {
    // The lease keeps other writers away, but WAL is stored all the time: after copying, the listing is old.
    const listed = copies.length === 0 ? atCommit : undefined;
    const { destination, project } = repository;
    const view = listed ? repository.through(listOnce(destination, `${project}/`, listed)) : repository;
    await pruneAfter(deps, ending, { plan, repository: view, fence: lease.fence, clockJump, signal }, log);
  }
  // Each place was measured when it was pruned.
  if (prune) ending.problems.push(...((await deps.sizeProblems?.().catch(() => undefined)) ?? []));
  if (ending.status === 'ok' && !copies.every(isCopyOk)) ending.status = 'partial';
}

/**
 * Updates the copies until the next run is due or another command wants the lock. A first copy may take days; it
 * resumes later.
 */
async function copyWhileThereIsTime(
  deps: BackupDeps,
  { signal, whenWanted }: BackupRequest,
  {
    prune,
    clockJump,
    ...copying
  }: Pick<Prepared, 'plan' | 'repository' | 'lease'> & Pick<Run, 'clockJump'> & { prune: boolean },
) {
  const room = new AbortController();
  const next = deps.nextRun();
  const ms = next === undefined ? LONGEST_TIMER_MS : Math.max(0, next.getTime() - deps.now().getTime());
  const timer = setTimeout(
    () =>
      room.abort(new LifeboatError('INTERRUPTED', 'it is not complete, and the next run is due', { hint: MAKES_ROOM })),
    Math.min(ms, LONGEST_TIMER_MS),
  );
  try {
    return await deps.copy(copying.plan, copying.repository, {
      lease: copying.lease,
      ...(prune ? { prune: { clockJump } } : {}),
      signal: AbortSignal.any([signal, room.signal, ...(whenWanted ? [whenWanted()] : [])]),
    });
  } finally {
    clearTimeout(timer);
  }
}

/** Prunes. A failure becomes a warning and does not change the status of the run. */
async function pruneAfter(
  deps: BackupDeps,
  ending: Ending,
  { plan, repository, ...pruning }: Pick<Prepared, 'plan' | 'repository'> & Parameters<BackupDeps['prune']>[2],
  log: Log,
): Promise<void> {
  try {
    const { snapshots, objects, bytes, refused, held, unreadable, unread } = await deps.prune(
      plan,
      repository,
      pruning,
    );
    ending.pruned = { snapshots, objects, bytes, ...(refused ? { refused } : {}), ...(held ? { held } : {}) };
    if (unreadable) {
      const warning = {
        code: 'OBJECT_DAMAGED',
        message: doubtedText(unreadable),
        hint: forgetHint(unreadable),
      } as const;
      ending.problems.push(warningOf(warning, warning.message));
    }
    if (unread) {
      const warning = { code: 'OBJECT_DAMAGED', message: unreadText(unread), hint: LIST_HINT } as const;
      ending.problems.push(warningOf(warning, warning.message));
    }
  } catch (error) {
    const info = errorInfo(error);
    const { code, message } = info;
    log.debug('old snapshots could not be removed', { code, message });
    ending.problems.push(warningOf(info, `old snapshots could not be removed: ${message}`));
  }
}

function warningOf({ code, hint }: ErrorInfo | LifeboatError, message: string): Problem {
  return { severity: 'warning', code, subject: PRUNE, message, ...(hint ? { hint } : {}) };
}
