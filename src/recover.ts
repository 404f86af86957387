import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, LifeboatError } from './errors.ts';
import { type HoldDeps, releaseHolds } from './hold.ts';
import { appendJournal, type JournalEntry, journalObjects, openJournals, readJournal } from './journal.ts';
import type { Log } from './log.ts';
import type { Dispatcher } from './report/dispatch.ts';
import type { RunReport, RunStart } from './report/events.ts';
import type { State } from './state.ts';
import type { Repository } from './store/repository.ts';

export interface RecoverDeps {
  /** directory of the journals */
  journals: string;
  /** directory of runs inside the spool */
  spool: string;
  destination: string;
  state: State;
  dispatcher: Dispatcher;
  log: Log;
  now(): Date;
  repository(): Promise<Repository>;
  holdDeps(record: HoldDeps['record']): HoldDeps;
  /** removes every helper of this project */
  reapHelpers(): Promise<void>;
}

/**
 * Undoes what runs left that died: starts containers again, runs their post hooks, removes helpers, stored objects that no
 * snapshot names and the spool, and reports each run as failed under its own rid. To be called with the lock held, so that
 * every journal is of a run that is dead.
 */
export async function recover(deps: RecoverDeps): Promise<void> {
  for (const file of await openJournals(deps.journals)) {
    const entries = await readJournal(file);
    const start = entries.find((entry) => entry.type === 'start');
    // An empty journal: nothing was recorded, so nothing was done.
    if (!start || (await undo(deps, file, entries, start))) await rm(file, { force: true });
  }
  await emptySpool(deps);
}

/** Resolves to whether everything is undone. What could not be is tried again at the next call; it is reported once. */
async function undo(
  deps: RecoverDeps,
  file: string,
  entries: JournalEntry[],
  start: JournalEntry & { type: 'start' },
): Promise<boolean> {
  const id = start.verb === 'backup' ? start.run.id : start.id;
  deps.log.warn(`cleaning up after a ${start.verb} that died`, { run: id });
  // People's containers come first.
  const released = await releaseHolds(
    entries,
    deps.holdDeps((entry) => appendJournal(file, entry)),
  );
  await deps.reapHelpers();
  if (start.verb === 'restore') return released;
  const leftovers = await removeLeftovers(deps, file, id);
  if (!entries.some((entry) => entry.type === 'reported')) {
    await reportDead(deps, start.run, leftovers === 'committed');
    appendJournal(file, { type: 'reported' });
  }
  return released && leftovers !== 'kept';
}

/** `committed`: the run had written its manifest before it died, so there is nothing to remove. */
async function removeLeftovers(
  deps: RecoverDeps,
  journal: string,
  id: string,
): Promise<'committed' | 'removed' | 'kept'> {
  try {
    const repository = await deps.repository();
    if ((await repository.snapshots()).snapshots.some(({ manifest }) => manifest.id === id)) return 'committed';
    await repository.removeObjects(await journalObjects(journal));
    return 'removed';
  } catch (error) {
    deps.log.warn('the repository could not be cleaned after a dead run', { run: id, ...errorInfo(error) });
    return 'kept';
  }
}

async function reportDead(deps: RecoverDeps, run: RunStart, committed: boolean): Promise<void> {
  const error = new LifeboatError('RUN_DIED', 'the agent ended in the middle of the run', {
    hint: committed
      ? 'Its snapshot was complete by then and can be used.'
      : 'Nothing of it is left; look for an out-of-memory kill or a reboot at that time.',
  });
  const previous = await deps.state.lastRun();
  const report: RunReport = {
    ...run,
    end: deps.now().toISOString(),
    status: 'failed',
    results: [],
    problems: [],
    error: errorInfo(error),
    destination: deps.destination,
    logTail: [],
    ...(committed ? { snapshot: run.id } : {}),
    ...(previous ? { previousStatus: previous.status } : {}),
  };
  await deps.state.saveLastRun(report);
  deps.dispatcher.emit({ type: 'run-finished', report });
}

async function emptySpool(deps: RecoverDeps): Promise<void> {
  const names = await readdir(deps.spool).catch(() => []);
  for (const name of names) await rm(path.join(deps.spool, name), { recursive: true, force: true });
}
