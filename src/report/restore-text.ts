import type { RestoreReport, RestoreStart, SkippedObject } from './events.ts';
import { formatBytes, formatDuration, oneLine, plural } from './format.ts';
import { type Paint, plainPaint } from './paint.ts';

/** Returns one line about a restore that begins. */
export function restoreStarted({ project, verb, source, target, snapshot }: RestoreStart): string {
  const to = target === source ? '' : ` to ${oneLine(target)}`;
  return verb === 'rollback'
    ? `${project}: rollback of ${source} started`
    : `${project}: restore of ${source}${to} from ${snapshot} started`;
}

/** Returns one line about the result of a restore: `shop: restore of db.postgres from 2026… ok in 12s`. */
export function restoreHeadline(report: RestoreReport): string {
  const { project, verb, source, target, snapshot, status, error } = report;
  const to = target === source ? '' : ` to ${oneLine(target)}`;
  const from = verb === 'rollback' ? '' : ` from ${snapshot}`;
  const took = formatDuration(Date.parse(report.end) - Date.parse(report.start));
  const outcome = { ok: 'ok', partial: 'done with problems', failed: 'failed' }[status];
  const why = error === undefined ? '' : ` — ${oneLine(error.message)} (${error.code})`;
  return `${project}: ${verb} of ${source}${to}${from} ${outcome} in ${took}${why}`;
}

/** Returns the lines below the headline: the restored data, its downtime, the checks, and how to undo the restore. */
export function restoreLines(report: RestoreReport, paint: Paint = plainPaint): string[] {
  const lines = report.restored.map((item) => {
    const facts = [
      ...(item.tables === undefined ? [] : [plural(item.tables, 'table')]),
      ...(item.rows === undefined ? [] : [plural(item.rows, 'row')]),
      ...(item.files === undefined ? [] : [plural(item.files, 'file')]),
      ...(item.bytes === undefined ? [] : [formatBytes(item.bytes)]),
    ];
    const kept = item.kept === undefined ? '' : ` · replaced data stays as ${oneLine(item.kept)}`;
    return `  ${oneLine(item.target)}${facts.length > 0 ? `  ${facts.join(', ')}` : ''}${kept}`;
  });
  for (const { target, error } of report.failed ?? []) {
    const hint = error.hint === undefined ? '' : ` hint: ${oneLine(error.hint)}`;
    lines.push(paint.bad(`  not restored: ${oneLine(target)}: ${oneLine(error.message)} (${error.code})${hint}`));
  }
  lines.push(...skippedLines(report.skipped ?? []).map((line) => paint.warn(line)));
  lines.push(...downtimeLines(report));
  for (const { name, ok, detail } of report.checks) {
    const words = `  ${ok ? 'checked' : 'failed'}: ${oneLine(name)}${detail === undefined ? '' : ` (${oneLine(detail)})`}`;
    lines.push(ok ? words : paint.bad(words));
  }
  for (const warning of report.warnings) lines.push(paint.warn(`  warning: ${oneLine(warning)}`));
  if (report.error?.hint !== undefined) lines.push(`  hint: ${oneLine(report.error.hint)}`);
  if (report.safety !== undefined) lines.push(`  safety snapshot ${report.safety}, pinned`);
  if (report.canRollBack) lines.push(`  to undo it: lifeboat rollback ${report.of ?? report.id}`);
  return lines;
}

/** Returns lines with the time for which services were stopped, and the time that the swap of the data took. */
function downtimeLines({ stoppedMs, withoutDataMs }: RestoreReport): string[] {
  const swap = withoutDataMs === undefined ? undefined : `the swap of the data took ${formatMs(withoutDataMs)}`;
  if (stoppedMs === undefined) return swap === undefined ? [] : [`  ${swap}`];
  return [`  services were stopped for ${formatMs(stoppedMs)}${swap === undefined ? '' : `; ${swap}`}`];
}

/** The number of objects that are listed. One missing object may make hundreds fail. */
const LISTED = 50;

function skippedLines(skipped: readonly SkippedObject[]): string[] {
  const lines = skipped
    .slice(0, LISTED)
    .flatMap(({ database, kind, name, statement, message }) => [
      `  left out: ${oneLine(database)}: ${kind} ${oneLine(name)}: ${oneLine(message)}`,
      ...(statement === undefined ? [] : [`    ${oneLine(statement)}`]),
    ]);
  const more = skipped.length - LISTED;
  return more > 0 ? [...lines, `  left out: ${plural(more, 'more object')}; use --json to list all`] : lines;
}

function formatMs(ms: number): string {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}
