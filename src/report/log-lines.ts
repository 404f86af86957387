import type { Log } from '../base/log.ts';
import { cleanReport } from './clean.ts';
import { copyBehind, isCopyOk } from './copy-text.ts';
import type { RunReport, RunStatus, SourceReport } from './events.ts';
import { sourceWarnings } from './fall.ts';
import { oneLine } from './format.ts';
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
  const why = error === undefined ? {} : { message: oneLine(error.message), code: error.code, ...hintOf(error) };
  log[LEVELS[clean.status]](headline(clean), { run, trigger: clean.trigger, ...why });
  for (const result of clean.results) logSource(log, clean, result);
  for (const copy of clean.copies ?? []) {
    if (isCopyOk(copy)) continue;
    if (copy.status !== 'ok') log.error(copyBehind(copy, new Date(clean.end)), { run, ...hintOf(copy.error) });
    for (const { message, code, hint } of copy.problems ?? [])
      log.error(`copy ${oneLine(copy.name)}: ${oneLine(message)}`, { run, code, ...hintOf({ hint }) });
  }
  for (const other of clean.others ?? []) log.warn(otherSource(other, new Date(clean.end)), { run });
  for (const { severity, subject, message, code, hint } of clean.problems)
    log[severity === 'error' ? 'error' : 'warn'](`${oneLine(subject)}: ${oneLine(message)}`, {
      run,
      code,
      ...hintOf({ hint }),
    });
}

function logSource(log: Log, { id: run, end }: RunReport, result: SourceReport): void {
  const { name, status, error, durationMs } = result;
  const subject = `${oneLine(name)}: ${WORDS[status]}`;
  if (error === undefined) log[LEVELS[status]](`${subject} · ${outcome(result)}`, { run, durationMs });
  else log[LEVELS[status]](subject, { run, message: oneLine(error.message), code: error.code, ...hintOf(error) });
  for (const text of sourceWarnings(result, new Date(end))) log.warn(`${oneLine(name)}: ${oneLine(text)}`, { run });
}

function hintOf(error: { hint?: string | undefined } | undefined): { hint?: string } {
  return error?.hint === undefined ? {} : { hint: oneLine(error.hint) };
}
