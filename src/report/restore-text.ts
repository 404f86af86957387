import type { RestoreReport, RestoreStart, SkippedObject } from './events.ts';
import { formatBytes, formatDuration, oneLine, plural } from './format.ts';
import { type Paint, plainPaint } from './paint.ts';
import { oneLineStatement } from './restore-command.ts';

/** The source in reports about a restore or rollback of all sources. */
export const ALL_SOURCES = 'all sources';
/** The same for a restore of several sources that the user named. */
export const SOME_SOURCES = 'several sources';

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

/** The longest list of names in a headline, in characters. */
const SUMMARY_LIMIT = 80;

/** Returns what was restored, for a headline: its names, or how many there are if the names are long. */
export function restoredSummary({ restored, failed = [], source }: RestoreReport): string {
  const names = restored.map(({ target }) => oneLine(target));
  if (names.length === 0) return 'nothing: everything is already there';
  const list = names.join(', ');
  if (names.length === 1 || list.length <= SUMMARY_LIMIT) return list;
  if (source !== ALL_SOURCES && source !== SOME_SOURCES) {
    const one = restored.every(({ tables }) => tables === undefined) ? 'table' : 'database';
    return `${plural(names.length, one)} of ${source}`;
  }
  const sourcesOf = (items: readonly { target: string }[]) => items.map(({ target }) => target.split(':')[0]);
  const done = new Set(sourcesOf(restored));
  const all = new Set([...done, ...sourcesOf(failed)]);
  return all.size === done.size ? plural(done.size, 'source') : `${done.size} of ${plural(all.size, 'source')}`;
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
  const hints = new Set<string>();
  for (const { target, error } of report.failed ?? []) {
    lines.push(paint.bad(`  not restored: ${oneLine(target)}: ${oneLine(error.message)} (${error.code})`));
    if (error.hint === undefined || hints.has(error.hint)) continue;
    hints.add(error.hint);
    lines.push(`    hint: ${oneLine(error.hint)}`);
  }
  lines.push(...skippedLines(report.skipped ?? []).map((line) => paint.warn(line)));
  lines.push(...downtimeLines(report));
  for (const { name, ok, detail } of report.checks) {
    const words = `  ${ok ? 'checked' : 'failed'}: ${oneLine(name)}${detail === undefined ? '' : ` (${oneLine(detail)})`}`;
    lines.push(ok ? words : paint.bad(words));
  }
  for (const warning of report.warnings) lines.push(paint.warn(`  warning: ${oneLine(warning)}`));
  // The error repeats the hint of the first source that failed.
  const repeated = [...hints].find((hint) => report.error?.hint?.startsWith(hint)) ?? '';
  const rest = report.error?.hint?.slice(repeated.length).trim() ?? '';
  if (rest !== '') lines.push(`  hint: ${oneLine(rest)}`);
  if (report.safety !== undefined) lines.push(`  safety snapshot ${report.safety}, pinned`);
  if (report.canRollBack) lines.push(`  to undo it: lifeboat rollback ${report.of ?? report.id}`);
  else if (report.undo !== undefined)
    lines.push(`  it replaced nothing, so \`lifeboat rollback\` cannot undo it; to undo it: ${oneLine(report.undo)}`);
  return lines;
}

/** Says that a dry run changed nothing in use, and which snapshot it stored for that, if any. */
export function dryRunText(recovered: string | undefined): string {
  if (recovered === undefined) return 'Nothing was changed: this was a dry run.';
  return `The databases are unchanged: this was a dry run. Snapshot ${recovered} with the recovered state stays for at least a day: restore it by its id, or keep it longer with \`lifeboat pin ${recovered}\`.`;
}

/** Returns what went wrong in a restore that goes on, as texts of one line. */
export function restoreWarnings({ failed = [], checks, warnings, error }: RestoreReport): string[] {
  return [
    ...failed.map((one) => `not restored: ${one.target}: ${one.error.message} (${one.error.code})`),
    ...checks.filter(({ ok }) => !ok).map(({ name, detail }) => `failed: ${name}${detail ? ` (${detail})` : ''}`),
    ...warnings,
    ...(error ? [`${error.message} (${error.code})`] : []),
  ].map(oneLine);
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
      ...(statement === undefined ? [] : [`    ${oneLineStatement(statement) ?? oneLine(statement)}`]),
    ]);
  const more = skipped.length - LISTED;
  return more > 0 ? [...lines, `  left out: ${plural(more, 'more object')}; use --json to list all`] : lines;
}

function formatMs(ms: number): string {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}
