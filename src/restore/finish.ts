import { errorInfo, LifeboatError, toLifeboatError } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import { isHalfRestored } from '../kept/volumes.ts';
import { flushWithin } from '../report/dispatch.ts';
import type { RestoreReport } from '../report/events.ts';
import { plural } from '../report/format.ts';
import type { Journal } from '../run/journal.ts';
import { putRecord, restoreKey } from '../store/objects/records.ts';
import type { Repository } from '../store/repository/repository.ts';
import { saveMeasured } from '../targets/measured.ts';
import type { RestoreDeps } from './context.ts';

/** The run that ends. */
interface Ending {
  /** of a restore or rollback of all sources: that of the group */
  journal: Journal;
  signal: AbortSignal;
  /** returns the end time if it ends now */
  ended(): Date;
}

/**
 * Ends a restore or rollback: sets its status from its error and its checks, stores its record, and notifies. Resolves
 * when every listener is done or has timed out; once `signal` aborts, that takes seconds. `journal` keeps the report,
 * so that recovery sends it if this process is killed. If the record cannot be stored, that is logged. For a place that
 * the user named with `--from`, it is no warning: such a place is often mounted read-only, and needs no record.
 */
export async function conclude(
  deps: Pick<RestoreDeps, 'agentVersion' | 'dispatcher' | 'log' | 'otherRepository' | 'state'> & Ending,
  repository: () => Promise<Repository>,
  report: RestoreReport,
  failure: unknown,
): Promise<void> {
  report.end = deps.ended().toISOString();
  judge(report, failure);
  await noteDuration(deps, report, failure);
  const clean = redactDeep(report);
  deps.journal.record({ type: 'ended', report: clean });
  try {
    const { destination, project } = await repository();
    await putRecord(destination, restoreKey(project, report.id), { agentVersion: deps.agentVersion, ...clean });
  } catch (error) {
    const log = deps.otherRepository ? deps.log.info : deps.log.warn;
    log(`the record of the ${report.verb} could not be stored`, { ...errorInfo(error) });
  }
  deps.dispatcher.emit({ type: 'restore-finished', report: clean });
  await flushWithin(deps.dispatcher, deps.signal);
}

/** Remembers how long the sources took that are back as a whole. The data is in place, whether or not that works. */
async function noteDuration(
  { state, log }: Pick<RestoreDeps, 'state' | 'log'>,
  { id, end, whole = [], workMs, failed }: RestoreReport,
  failure: unknown,
): Promise<void> {
  if (failure !== undefined || failed || whole.length === 0 || workMs === undefined) return;
  await saveMeasured(state.directory, whole, { id, at: end, durationMs: workMs, by: 'restore' }).catch(
    (error: unknown) => log.warn('the duration of the restore cannot be remembered', { ...errorInfo(error) }),
  );
}

function judge(report: RestoreReport, failure: unknown): void {
  const inPlace = report.restored.length > 0;
  const unwell = report.checks.filter(({ ok }) => !ok).map(({ name }) => name);
  if (failure !== undefined) {
    Object.assign(report, { status: inPlace ? 'partial' : 'failed', error: errorInfo(failure) });
    // No data was swapped.
    if (!inPlace) report.canRollBack = false;
  } else if (report.failed || report.skipped) {
    Object.assign(report, { status: 'partial', error: errorInfo(incomplete(report)) });
  } else if (unwell.length > 0) {
    const back = report.verb === 'restore' ? 'brings the old data back' : 'undoes it';
    const why = new LifeboatError(
      'RESTORE_UNHEALTHY',
      `the data is restored, but these checks failed: ${unwell.join(', ')}`,
      {
        hint: `${checksStep(report)} \`lifeboat rollback ${report.of ?? report.id}\` ${back}.`,
      },
    );
    Object.assign(report, { status: 'partial', error: errorInfo(why) });
  }
}

/** Returns what to do about failed checks: of services, or of `lifeboat.exec.restored` alone. */
function checksStep({ checks }: RestoreReport): string {
  const failed = checks.filter(({ ok }) => !ok);
  const isHook = failed.every(({ name }) => name.startsWith('lifeboat.exec.restored'));
  return isHook ? 'Correct what the checks name, then run the command of the label.' : 'Check their logs.';
}

/** Says why a restore is incomplete. Databases that failed take precedence over objects that were left out. */
function incomplete({ failed = [], skipped = [], restored, checks }: RestoreReport): LifeboatError {
  const [first] = failed;
  const names = checks.filter(({ ok }) => !ok).map(({ name }) => name);
  const unwell = names.length === 0 ? '' : ` Failed checks: ${names.join(', ')}.`;
  if (first) {
    const all = plural(failed.length + restored.length, 'database');
    return new LifeboatError(
      first.error.code,
      `${failed.length} of ${all} could not be restored: ${failed.map(({ target }) => target).join(', ')}: ${first.error.message}`,
      {
        hint: `${first.error.hint ?? 'They are unchanged.'} \`--database ${first.target}\` restores one of them alone.${unwell}`,
        ...(first.error.cause === undefined ? {} : { cause: new Error(first.error.cause) }),
      },
    );
  }
  return new LifeboatError(
    'PG_RESTORE_FAILED',
    `the server refused ${plural(skipped.length, 'object')}; everything else is restored`,
    { hint: `Repair the data that the list names, then run the statements.${unwell}` },
  );
}

/** The hint after a restore that ended early: its commands may not have run. */
export const RUN_RESTORED = 'If a service has `lifeboat.exec.restored`, run that command.';

/**
 * Describes an error that ends a restore or rollback after data was swapped, such as an interrupt while services start.
 * The command must not be repeated blindly. Returns the error unchanged if no data was swapped.
 *
 * @param rest the sources that were not reached
 */
export function whileInPlace(
  error: unknown,
  { id, of, verb, canRollBack, restored, failed = [] }: RestoreReport,
  rest: readonly string[] = [],
): unknown {
  if (restored.length === 0 || isHalfRestored(error)) return error;
  const own = toLifeboatError(error);
  const isRestore = verb === 'restore';
  const back = isRestore ? 'brings the old data back' : 'undoes it';
  const data = isRestore ? 'restored data' : 'old data';
  const unchanged = [...failed.map(({ target }) => target), ...rest];
  const names = restored.map(({ target }) => target).join(', ');
  const where =
    unchanged.length === 0
      ? `The ${data} is in place, complete`
      : `${names}: the ${data} is in place, complete. ${unchanged.join(', ')}: unchanged`;
  return new LifeboatError(own.code, own.message, {
    cause: own.cause,
    hint: [
      `${where}${canRollBack ? `; \`lifeboat rollback ${of ?? id}\` ${back}` : ''}.`,
      'Check that all services that use it run.',
      ...(isRestore ? [RUN_RESTORED] : []),
    ].join(' '),
  });
}
