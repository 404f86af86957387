import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Dispatcher } from '../report/dispatch.ts';
import type { RestoreReport, RestoreStart } from '../report/events.ts';
import type { JournalEntry, Reached } from '../run/journal.ts';
import { putRecord, readRecord, restoreKey } from '../store/objects/records.ts';
import type { Repository } from '../store/repository/repository.ts';

interface DeadRestoreDeps {
  dispatcher: Dispatcher;
  log: Log;
  now(): Date;
  agentVersion: string;
  repository(): Promise<Repository>;
}

/** What a journal tells of a restore that died. */
interface DeadRestore {
  reached: Reached;
  /** of several databases: those that were swapped for sure, those that failed and are as they were, and the others in their order */
  several: { swapped: string[]; failed: string[]; others: string[] } | undefined;
  /** tables that it was putting into a database in use */
  copying: readonly string[];
}

/** What a restore of several databases had swapped, and what it had not; undefined for other restores. */
export function severalOf(entries: readonly JournalEntry[]): DeadRestore['several'] {
  const all = entries.find((entry) => entry.type === 'targets')?.targets;
  const named = (type: 'swapped' | 'failed') =>
    entries.flatMap((entry) => (entry.type === type && 'target' in entry ? [entry.target] : []));
  const [swapped, tried] = [named('swapped'), named('failed')];
  // The one that has its name had it when the error came, so that the restore reported it as failed all the same.
  const failed = tried.filter((target) => !swapped.includes(target));
  return all && { swapped, failed, others: all.filter((target) => ![...swapped, ...failed].includes(target)) };
}

/**
 * Tells of a restore that died, and stores its record. One that had stored its record had ended: then that is told.
 * Never rejects because of the repository.
 */
export async function reportDeadRestore(
  deps: DeadRestoreDeps,
  restore: RestoreStart,
  { reached, several, copying }: DeadRestore,
): Promise<void> {
  const report: RestoreReport = {
    ...restore,
    end: deps.now().toISOString(),
    status: 'failed',
    restored: [],
    steps: [],
    checks: [],
    canRollBack: reached === 'swapped',
    warnings: [],
    error: errorInfo(
      new LifeboatError('RUN_DIED', `the agent ended in the middle of the ${restore.verb}`, {
        hint:
          copying.length > 0
            ? copyingHint(copying)
            : several
              ? severalHint(restore, several, reached)
              : hint(restore, reached),
      }),
    ),
  };
  const kept = await keepRecord(deps, report);
  // People without a notifier have the log alone.
  if (kept.error)
    deps.log.error(`${restore.verb} failed`, { restore: restore.id, source: restore.source, ...kept.error });
  deps.dispatcher.emit({ type: 'restore-finished', report: kept });
  // Told before it is noted as told.
  await deps.dispatcher.flush();
}

/** They come in one transaction; what ties them to other tables is made after it. */
function copyingHint(tables: readonly string[]): string {
  const named = tables.slice(0, 5).join(', ') + (tables.length > 5 ? ` and ${tables.length - 5} more` : '');
  return `${named} may be in the database by now, with all rows, but without foreign keys, or apart from the table that they are a partition of: look whether they are, drop them then, and start it again.`;
}

/** Each was swapped for itself; the one whose turn it was may be swapped too. */
function severalHint(
  { id }: RestoreStart,
  { swapped, failed, others }: NonNullable<DeadRestore['several']>,
  reached: Reached,
): string {
  const [next, ...later] = others;
  const asItWas = [...failed, ...later];
  // What a restore made where nothing was has nothing to go back to.
  const back =
    reached === 'swapped'
      ? [`\`lifeboat rollback ${id}\` brings back what it replaced.`]
      : reached === 'unknown'
        ? ['`lifeboat status` shows what can be rolled back.']
        : [];
  return [
    ...(swapped.length > 0 ? [`Restored and in place: ${swapped.join(', ')}.`] : []),
    ...(next === undefined ? [] : [`Wholly the old or the new: ${next}.`]),
    ...(asItWas.length > 0 ? [`As it was: ${asItWas.join(', ')}.`] : []),
    'The restore can be started again.',
    ...back,
  ].join(' ');
}

function hint({ verb, id }: RestoreStart, reached: Reached): string {
  if (reached === 'unknown') return 'Which data is in place cannot be told now; look at it, and at `lifeboat status`.';
  if (reached === 'half')
    return 'The volume holds neither the old data nor the new, and what uses it stays stopped. Nothing of either is lost: taking it back is tried again every minute, and the log says what is in the way.';
  if (reached === 'nothing') return 'Nothing was replaced; it can be started again.';
  if (verb === 'rollback') return 'The data is rolled back, complete; `lifeboat rollback` undoes it.';
  return `The restored data is in place, complete; \`lifeboat rollback ${id}\` brings the former data back.`;
}

/** Resolves to the report that the record holds. */
async function keepRecord(deps: DeadRestoreDeps, report: RestoreReport): Promise<RestoreReport> {
  try {
    const { destination, project } = await deps.repository();
    const key = restoreKey(project, report.id);
    try {
      await putRecord(destination, key, { agentVersion: deps.agentVersion, ...report });
      return report;
    } catch (error) {
      if (!hasCode(error, 'DEST_EXISTS')) throw error;
      return (await readRecord(destination, key)) as unknown as RestoreReport;
    }
  } catch (error) {
    deps.log.warn('the record of a dead restore could not be stored', { restore: report.id, ...errorInfo(error) });
    return report;
  }
}
