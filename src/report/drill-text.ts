import type { DrillCheck, DrillReport, DrillResult, DrillTarget } from './drill-report.ts';
import { formatAge, formatDuration, oneLine, plural } from './format.ts';
import { type Paint, plainPaint } from './paint.ts';

const OUTCOMES = { ok: 'ok', failed: 'failed', interrupted: 'ended early', unproven: 'proved only a part' } as const;

/** Returns one line about a drill: `shop: drill ok in 38s · 3 sources`. */
export function drillHeadline({ project, status, results, start, end, error }: DrillReport): string {
  const took = formatDuration(Date.parse(end) - Date.parse(start));
  const outcome = OUTCOMES[status];
  const why = error === undefined ? '' : ` — ${oneLine(error.message)} (${error.code})`;
  return `${project}: drill ${outcome} in ${took} · ${plural(results.length, 'source')}${why}`;
}

/** Returns the line about one source: what is equal, how long the restore took, and what was restored. */
export function drillLine({
  source,
  summary,
  status,
  restoreMs,
  snapshot,
  ageMs,
  image,
  checks,
  error,
  rpo,
  rto,
}: DrillResult): string {
  const failed = checks.filter(({ result }) => result === 'failed').length;
  const what =
    status === 'ok'
      ? (summary ?? 'ok')
      : status === 'unproven' && !error
        ? [...(summary === undefined ? [] : [summary]), OUTCOMES.unproven].join('; ')
        : error
          ? `${OUTCOMES[status]} — ${oneLine(error.message)} (${error.code})`
          : `failed: ${failed} of ${plural(checks.length, 'check')}`;
  const parts = [
    what,
    ...(restoreMs === undefined ? [] : [withTarget(`restored in ${formatDuration(restoreMs)}`, rto)]),
    ...(snapshot === undefined ? [] : [withTarget(`snapshot ${snapshot}, ${formatAge(ageMs ?? 0)} old`, rpo)]),
    ...(image === undefined ? [] : [`image ${image.digest ?? image.id.slice(0, 19)}`]),
  ];
  return `${oneLine(source)}: ${parts.join(' · ')}`;
}

/** Adds the target to a measured time: `restored in 2h (target 1h, not met)`. */
export function withTarget(text: string, target: DrillTarget | undefined): string {
  if (!target) return text;
  return `${text} (target ${formatDuration(target.targetMs)}${target.met === false ? ', not met' : ''})`;
}

/** Returns the whole text about a drill. */
export function drillText(report: DrillReport, paint?: Paint): string {
  return [drillHeadline(report), ...drillLines(report, paint)].join('\n');
}

/** Returns the lines of a drill: for each source its result, the failed checks, and what was not checked. */
export function drillLines({ results, unproven }: DrillReport, paint: Paint = plainPaint): string[] {
  return [
    ...results.flatMap((result) => [
      result.status === 'ok' ? drillLine(result) : paint.bad(drillLine(result)),
      ...result.checks.filter(({ result: how }) => how === 'failed').flatMap((one) => failedLines(one, paint)),
      ...skippedLine(result),
      ...(result.error?.cause === undefined ? [] : [`  cause: ${oneLine(result.error.cause)}`]),
      ...(result.error?.hint === undefined ? [] : [`  hint: ${oneLine(result.error.hint)}`]),
      ...result.notes.map((note) => paint.warn(`  note: ${oneLine(note)}`)),
    ]),
    ...unproven.map((one) => paint.warn(`not proven: ${oneLine(one)}`)),
  ];
}

function failedLines(check: DrillCheck, paint: Paint): string[] {
  const lines = [paint.bad(`  failed: ${checkText(check)}`)];
  return [...lines, ...(check.differences ?? []).map((one) => `    ${oneLine(one)}`)];
}

/** Returns a check in words: `rows of app: expected 12, found 11 (3 tables)`. */
export function checkText({ name, of, expected, found, detail }: DrillCheck): string {
  const both = expected === undefined || found === undefined ? '' : `: expected ${expected}, found ${found}`;
  return oneLine(`${name} of ${of}${both}${detail === undefined ? '' : ` (${detail})`}`);
}

function skippedLine({ checks }: DrillResult): string[] {
  const skipped = checks.filter(({ result }) => result === 'skipped');
  return skipped.length === 0 ? [] : [`  not checked: ${skipped.map(checkText).join('; ')}`];
}
