import type { ErrorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { cleanReport } from './clean.ts';
import { copyBehind, isCopyOk } from './copy-text.ts';
import type { RunReport, RunStatus, SourceReport } from './events.ts';
import { sourceWarnings } from './fall.ts';
import { oneLine } from './format.ts';
import { problemText } from './problem-text.ts';
import { headline, otherSource, outcome } from './text.ts';

const LEVELS: Record<RunStatus, 'info' | 'warn' | 'error'> = { ok: 'info', partial: 'warn', failed: 'error' };
const WORDS: Record<RunStatus, string> = { ok: 'ok', partial: 'partly failed', failed: 'failed' };

/**
 * Logs a run that has ended: one line for the run, and one for each source, each copy that is behind, and each problem.
 * A reader of the log sees the cause without any other command.
 */
export function logReport(log: Log, report: RunReport): void {
  const clean = cleanReport(report);
  const run = clean.id;
  const { error } = clean;
  const why = error === undefined ? {} : { message: oneLine(error.message), code: error.code, ...detailsOf(error) };
  log[LEVELS[clean.status]](headline(clean), { run, trigger: clean.trigger, ...why });
  for (const result of clean.results) logSource(log, clean, result);
  for (const copy of clean.copies ?? []) {
    if (isCopyOk(copy)) continue;
    if (copy.status !== 'ok') log.error(copyBehind(copy, new Date(clean.end)), { run, ...detailsOf(copy.error) });
    for (const problem of copy.problems ?? [])
      log.error(`copy ${oneLine(copy.name)}: ${oneLine(problem.message)}`, {
        run,
        code: problem.code,
        ...detailsOf(problem),
      });
  }
  for (const other of clean.others ?? [])
    log.warn(otherSource(other, new Date(clean.end)), { run, ...detailsOf(other.error) });
  for (const problem of clean.problems) {
    const { severity, code } = problem;
    log[severity === 'error' ? 'error' : 'warn'](problemText(problem), { run, code, ...detailsOf(problem) });
  }
}

function logSource(log: Log, { id: run, end }: RunReport, result: SourceReport): void {
  const { name, status, error, durationMs } = result;
  const subject = `${oneLine(name)}: ${WORDS[status]}`;
  if (error === undefined) log[LEVELS[status]](`${subject} · ${outcome(result)}`, { run, durationMs });
  else log[LEVELS[status]](subject, { run, message: oneLine(error.message), code: error.code, ...detailsOf(error) });
  for (const text of sourceWarnings(result, new Date(end))) log.warn(`${oneLine(name)}: ${oneLine(text)}`, { run });
}

function detailsOf({ cause, hint }: Pick<ErrorInfo, 'cause' | 'hint'> = {}): { cause?: string; hint?: string } {
  return {
    ...(cause === undefined ? {} : { cause: oneLine(cause) }),
    ...(hint === undefined ? {} : { hint: oneLine(hint) }),
  };
}
