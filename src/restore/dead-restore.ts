import path from 'node:path';
import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { noteLast } from '../kept/last-unkept.ts';
import type { Dispatcher } from '../report/dispatch.ts';
import type { RestoreReport, RestoreStart } from '../report/events.ts';
import { type JournalEntry, type Reached, readJournal } from '../run/journal.ts';
import type { State } from '../run/state.ts';
import { copyingHint } from '../sources/postgres/tables/copy-outcome.ts';
import { putRecord, readRecord, restoreKey } from '../store/objects/records.ts';
import type { Repository } from '../store/repository/repository.ts';
import { RUN_RESTORED } from './finish.ts';
import { dropAll } from './part.ts';

interface DeadRestoreDeps {
  dispatcher: Dispatcher;
  log: Log;
  now(): Date;
  state: State;
  agentVersion: string;
  repository(): Promise<Repository>;
}

/** The state of a dead restore, as its journal shows it. */
interface DeadRestore {
  reached: Reached;
  /** the agent has a record of the data that it replaced */
  canRollBack: boolean;
  /** it has, or may have, replaced data that is kept */
  hasReplaced: boolean;
  /** databases that were certainly swapped, that failed and are unchanged, and the others in order */
  databases: { swapped: string[]; failed: string[]; others: string[] };
  /** tables that it was copying into a database in use */
  copying: readonly string[];
  /** about databases that recovery completed */
  warnings: readonly string[];
}

/** Returns how far a restore of databases came with each. */
function databasesOf(entries: readonly JournalEntry[]): DeadRestore['databases'] {
  const all = entries.find((entry) => entry.type === 'targets')?.targets ?? [];
  const named = (type: 'swapped' | 'failed') =>
    entries.flatMap((entry) => (entry.type === type && 'target' in entry ? [entry.target] : []));
  const [swapped, tried] = [named('swapped'), named('failed')];
  // A database may have been swapped before the error came that the restore reported for it.
  const failed = tried.filter((target) => !swapped.includes(target));
  return { swapped, failed, others: all.filter((target) => ![...swapped, ...failed].includes(target)) };
}

/**
 * Reports a dead restore or rollback, and stores its record. If it had ended, the report of that end is stored and
 * sent instead. Reports nothing if it had changed nothing, or if a restore of all sources that it belongs to had ended:
 * the report of the whole covers it. Never rejects because of the repository.
 *
 * @param journal its file
 */
export async function reportDeadRestore(deps: DeadRestoreDeps, journal: string, reached: Reached): Promise<void> {
  const entries = await readJournal(journal);
  const ended = endIn(entries);
  const begun = entries.find((entry) => entry.type === 'begun');
  if (ended) return report(deps, ended);
  if (!begun || (await hasGroupEnded(journal, entries))) return;
  const dead: DeadRestore = {
    ...(await resultOf(deps, begun, entries, reached)),
    copying: entries.findLast((entry) => entry.type === 'copying')?.tables ?? [],
    warnings: entries.flatMap((entry) => (entry.type === 'dependents-done' ? (entry.warnings ?? []) : [])),
  };
  const own = deadReport(begun.restore, dead, deps.now());
  await noteUnkept(deps, own, entries, dead).catch((error: unknown) =>
    deps.log.warn('the agent cannot record that a dead restore was the last one', { ...errorInfo(error) }),
  );
  await report(deps, own);
}

/** The records of old data do not show a database under an unused name, nor files in an empty volume. */
async function resultOf(
  { state, log }: Pick<DeadRestoreDeps, 'state' | 'log'>,
  { restore: { id }, from }: JournalEntry & { type: 'begun' },
  entries: readonly JournalEntry[],
  found: Reached,
): Promise<Pick<DeadRestore, 'reached' | 'canRollBack' | 'hasReplaced' | 'databases'>> {
  const databases = databasesOf(entries);
  const isOne = databases.swapped.length === 1 && databases.failed.length + databases.others.length === 0;
  const recorded = await state.rollbacks().catch((error: unknown) => {
    log.warn('the records of replaced data cannot be read', { restore: id, ...errorInfo(error) });
    return undefined;
  });
  const reached = isOne ? 'swapped' : recorded ? found : 'unknown';
  const isRecorded = recorded?.some((one) => one.id === (from?.id ?? id)) === true;
  const canRollBack = reached === 'swapped' && isRecorded;
  return { reached, canRollBack, hasReplaced: canRollBack || reached === 'unknown' || !recorded, databases };
}

/** Remembers a dead restore whose data is in place: without an id, a rollback means that one. */
async function noteUnkept(
  { state }: Pick<DeadRestoreDeps, 'state'>,
  own: RestoreReport,
  entries: readonly JournalEntry[],
  { reached, databases: { swapped } }: DeadRestore,
): Promise<void> {
  // A restore to a directory is none of data in use.
  const isElsewhere = entries.some((entry) => entry.type === 'volume' && entry.mount === undefined);
  if (isElsewhere || (reached !== 'swapped' && swapped.length === 0)) return;
  const start = entries.find((entry) => entry.type === 'start');
  const group = start?.verb === 'restore' ? start.group : undefined;
  const ofGroup = group !== undefined && (await state.rollbacks()).some((one) => one.group === group);
  const canRollBack = own.verb === 'rollback' || own.canRollBack || ofGroup;
  await noteLast(state, { ...own, id: group ?? own.id, restored: [{ target: own.target }], canRollBack });
}

function endIn(entries: readonly JournalEntry[]): RestoreReport | undefined {
  return entries.find((entry) => entry.type === 'ended')?.report;
}

/** Recovery removes the journals of the sources first, so that of the whole is still there. */
async function hasGroupEnded(journal: string, entries: readonly JournalEntry[]): Promise<boolean> {
  const start = entries.find((entry) => entry.type === 'start');
  if (start?.verb !== 'restore' || start.group === undefined) return false;
  const whole = path.join(path.dirname(journal), `${start.group}.ndjson`);
  return endIn(await readJournal(whole).catch(() => [])) !== undefined;
}

function deadReport(
  restore: RestoreStart,
  { reached, canRollBack, hasReplaced, databases, copying, warnings }: DeadRestore,
  now: Date,
): RestoreReport {
  const { swapped } = databases;
  const isSeveral = swapped.length + databases.failed.length + databases.others.length > 1;
  return {
    ...restore,
    end: endOf(restore, now),
    status: 'failed',
    restored: [],
    steps: [],
    checks: [],
    canRollBack,
    ...(swapped.length > 0 && !hasReplaced ? { undo: dropAll(swapped.map((target) => ({ target }))) } : {}),
    warnings: [...warnings],
    error: errorInfo(
      new LifeboatError('RUN_DIED', `Lifeboat ended in the middle of the ${restore.verb}`, {
        hint:
          copying.length > 0
            ? copyingHint(copying)
            : isSeveral
              ? severalHint(restore, databases, reached)
              : hint(restore, reached, canRollBack),
      }),
    ),
  };
}

async function report(deps: DeadRestoreDeps, own: RestoreReport): Promise<void> {
  const kept = await keepRecord(deps, own);
  // Without a notifier, the log is the only report.
  if (kept.error) deps.log.error(`${own.verb} failed`, { restore: own.id, source: own.source, ...kept.error });
  deps.dispatcher.emit({ type: 'restore-finished', report: kept });
  // The caller records the report as sent.
  await deps.dispatcher.flush();
}

/** Returns when a dead run was found, as ISO time. The clock may have been set back since its start. */
export function endOf({ start }: { start: string }, found: Date): string {
  return new Date(Math.max(found.getTime(), Date.parse(start))).toISOString();
}

/** Each database is swapped on its own. The one in progress may be swapped too. */
function severalHint(
  { id }: RestoreStart,
  { swapped, failed, others }: DeadRestore['databases'],
  reached: Reached,
): string {
  const [next, ...later] = others;
  const asItWas = [...failed, ...later];
  // A database that was created under an unused name has no earlier data.
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
    ...(swapped.length > 0 || reached === 'swapped' ? [RUN_RESTORED] : []),
  ].join(' ');
}

function hint({ verb, id }: RestoreStart, reached: Reached, canRollBack: boolean): string {
  if (reached === 'unknown') return 'It is not known now which data is in place: check it, and see `lifeboat status`.';
  if (reached === 'half')
    return 'The volume holds neither the old data nor the new, and services that use it stay stopped. No data is lost: Lifeboat tries every minute to reverse the swap, and the log says what prevents it.';
  if (reached === 'nothing') return 'Nothing was replaced. You can start it again.';
  if (verb === 'rollback')
    return `The data is rolled back completely.${canRollBack ? ' `lifeboat status` shows how to undo that.' : ''}`;
  const back = canRollBack ? ` \`lifeboat rollback ${id}\` brings the old data back.` : '';
  return `The restored data is in place, complete.${back} ${RUN_RESTORED}`;
}

/** Stores the record. Resolves to the report that the repository holds. */
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
