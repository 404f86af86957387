import type { ErrorInfo } from '../base/errors.ts';
import type { Problem } from '../plan/model.ts';
import { cleanReport } from './clean.ts';
import { copyLines } from './copy-text.ts';
import {
  type OtherSource,
  overall,
  type Progress,
  type RunReport,
  type RunStatus,
  type SourceReport,
} from './events.ts';
import { sourceWarnings } from './fall.ts';
import {
  displayWidth,
  formatAgo,
  formatBytes,
  formatDuration,
  formatRate,
  formatWhen,
  oneLine,
  pad,
  plural,
} from './format.ts';
import { labelled, safeLines, safety } from './last-good.ts';
import { type Paint, plainPaint } from './paint.ts';
import { detailLines, problemLines } from './problem-text.ts';
import { prunedLines } from './prune-text.ts';
import { isRegularRun } from './trigger.ts';

/** Options of rendering. Local times are in `zone` (default: that of the process). Ages refer to `now`. */
interface RenderOptions {
  now: Date;
  zone?: string | undefined;
  paint?: Paint;
  /** put failures first, for texts that may be cut */
  failedFirst?: boolean;
  /** say how to make the failed backups again, unless Lifeboat does that */
  again?: boolean;
}

/** Warnings shown for each source, which may have a thousand. */
const MAX_WARNINGS = 5;

const STATUS_WORDS: Record<RunStatus, string> = { ok: 'ok', partial: 'partly failed', failed: 'failed' };

/**
 * Returns the result in one line: `shop: backup ok`, `shop: backup ok again` after a failure,
 * `shop: backup partly failed (1 of 3 sources)`.
 */
export function headline(report: RunReport): string {
  const { project } = cleanReport({ project: report.project });
  const bad = report.results.filter((result) => result.status !== 'ok').length;
  const behind = (report.copies ?? []).filter(({ status }) => status !== 'ok').length;
  const parts = [
    ...(bad > 0 ? [`${bad} of ${plural(report.results.length, 'source')}`] : []),
    ...(behind > 0 ? [plural(behind, 'copy is behind', 'copies are behind')] : []),
  ];
  const problems = errorsOf(report).length;
  if (parts.length === 0 && problems > 0) parts.push(plural(problems, 'problem'));
  const share = report.status === 'partial' && parts.length > 0 ? ` (${parts.join(', ')})` : '';
  const before = report.previousStatus ?? 'ok';
  const again = before !== 'ok' && overall(report) === 'ok' ? ' again' : '';
  return `${oneLine(project)}: backup ${STATUS_WORDS[report.status]}${again}${share}${butOthers(report)}`;
}

/** Returns the problems of a run, and of its copies, that are errors. */
export function errorsOf({ problems, copies = [] }: Pick<RunReport, 'problems' | 'copies'>): Problem[] {
  return [...problems, ...copies.flatMap((copy) => copy.problems ?? [])].filter(({ severity }) => severity === 'error');
}

function butOthers({ status, others = [], results }: RunReport): string {
  const all = [...others, ...results.filter(({ fell }) => fell)];
  const [first] = all;
  if (status !== 'ok' || first === undefined) return '';
  if (all.length > 1)
    return `, but ${all.length} ${others.length === all.length ? 'other ' : ''}sources need attention`;
  return `, but ${oneLine(cleanReport({ name: first.name }).name)} needs attention`;
}

/**
 * Returns a line about a source outside the run:
 * `db.postgres was not part of this run and needs attention: it failed 2h ago: …`.
 */
export function otherSource(other: OtherSource, now: Date): string {
  const { name, at, error } = other;
  const when = at === undefined ? '' : ` ${formatAgo(new Date(at), now)}`;
  const why = error === undefined ? '' : `: ${oneLine(error.message)} (${error.code})`;
  const gone = error?.code === 'CONTAINER_STOPPED' ? `cannot be backed up${why}` : 'no longer exists (SOURCE_VANISHED)';
  const state = {
    failed: `failed${when}${why}`,
    partial: `partly failed${when}${why}`,
    late: 'was not backed up at its last two scheduled times',
    vanished: gone,
  }[other.attention];
  return `${oneLine(name)} was not part of this run and needs attention: it ${state}; ${safety(other, now)}`;
}

/** Returns the sums over all sources and the duration of the run: `41s · 19.6 GiB seen, 161 MiB new`. */
export function totals(report: RunReport): string {
  const sum = (pick: (result: SourceReport) => number) => report.results.reduce((all, result) => all + pick(result), 0);
  const took = formatDuration(Date.parse(report.end) - Date.parse(report.start));
  return `${took} · ${formatBytes(sum((r) => r.bytes))} seen, ${formatBytes(sum((r) => r.newBytes))} new`;
}

/** Returns the result of a stored source: `20,114 files · 3.1 MiB new (17 files)`, `3 files, unchanged`. */
export function outcome(result: SourceReport): string {
  const what = oneLine(result.summary) || plural(result.files, 'file');
  if (result.newBytes === 0 && result.newFiles === 0) return `${what}, unchanged`;
  // The number of files matters to people for a volume, but not for a dump.
  const files = result.kind === 'postgres' ? '' : ` (${plural(result.newFiles, 'file')})`;
  return `${what} · ${formatBytes(result.newBytes)} new${files}`;
}

/** The number of sources that a command names. */
const MAX_AGAIN = 3;

/** Returns the command that makes the failed backups again, or undefined if there is none to type. */
export function againCommand({ results, sources, error, trigger }: RunReport): string | undefined {
  if (!isRegularRun(trigger)) return undefined;
  const stored = error === undefined ? ['ok'] : [];
  const failed = results
    .filter(({ status, error: why }) => !stored.includes(status) && why?.code !== 'SOURCE_VANISHED')
    .map(({ name }) => name);
  // Only names without special characters, because people paste this command into a shell.
  const names = [...new Set([...failed, ...(error === undefined ? [] : sources)])].filter((name) =>
    /^[\w.-]+$/.test(name),
  );
  const backup = 'docker compose exec lifeboat lifeboat backup';
  if (names.length > 0 && names.length <= MAX_AGAIN) return `${backup} ${names.join(' ')}`;
  return error === undefined ? undefined : backup;
}

/** Renders an error: `error: … (CODE)`, then cause, hint and `safe`, one line each. Redacted. */
export function renderError(
  error: ErrorInfo,
  { paint = plainPaint, safe }: { paint?: Paint; safe?: string } = {},
): string {
  const clean = cleanReport(error);
  // A message with several lines lists what is wrong, one mistake a line.
  const [first = '', ...listed] = clean.message.split('\n').map(oneLine);
  const lines = [`${paint.bad('error:')} ${first} (${clean.code})`, ...listed.map((line) => `  ${line}`)];
  for (const detail of details(clean, safe)) lines.push(`  ${detail}`);
  return lines.join('\n');
}

function details(error: ErrorInfo, safe?: string): string[] {
  return [...detailLines(error), ...(safe === undefined ? [] : [labelled(safe)])];
}

/** Renders the result of a run as plain text, without a final line break. Redacted. */
export function renderReport(report: RunReport, options: RenderOptions): string {
  const clean = cleanReport(report);
  const paint = options.paint ?? plainPaint;
  const lines = [title(clean, paint)];
  if (clean.error !== undefined)
    lines.push(
      ...renderError(clean.error, { paint })
        .split('\n')
        .map((line) => `  ${line}`),
    );
  lines.push(...safeLines(clean, options.now).map((line) => `  ${line}`));
  lines.push(...sourceLines(clean, options, paint));
  lines.push(...copyLines(clean.copies ?? [], options.now, paint));
  if (clean.pruned !== undefined) lines.push(...prunedLines(clean.pruned, paint));
  for (const other of clean.others ?? []) {
    lines.push(`  ${paint.bad('!')} ${otherSource(other, options.now)}`);
    lines.push(...detailLines(other.error ?? {}).map((line) => `    ${line}`));
  }
  for (const problem of clean.problems) lines.push(...problemLines(problem, paint));
  if (clean.retry !== undefined) lines.push(`  ${nextTry(clean.retry.at, options)}`);
  const again = options.again && clean.retry === undefined ? againCommand(clean) : undefined;
  if (again !== undefined) lines.push(`  try again: ${again}`);
  if (clean.nextRun !== undefined) lines.push(`  ${paint.dim(nextRun(clean.nextRun, options))}`);
  return lines.join('\n');
}

function title(report: RunReport, paint: Paint): string {
  if (report.snapshot === undefined) {
    return `${paint.bad(`Backup of ${oneLine(report.project)} ${STATUS_WORDS[report.status]}`)} · ${totals(report)} · nothing stored`;
  }
  const name = paint.bold(`Snapshot ${report.snapshot}`);
  const status = report.status === 'ok' ? '' : ` · ${paint.bad(STATUS_WORDS[report.status])}`;
  return `${name}${status} · ${totals(report)}`;
}

function sourceLines(report: RunReport, { now, failedFirst = false }: RenderOptions, paint: Paint): string[] {
  const results = failedFirst ? failuresFirst(report.results) : report.results;
  const nameWidth = Math.max(0, ...results.map((result) => displayWidth(oneLine(result.name))));
  const statusWidth = Math.max(2, ...results.map((result) => result.status.length));
  const colour = { ok: paint.good, partial: paint.warn, failed: paint.bad };
  return results.flatMap((result) => {
    const status = colour[result.status](pad(result.status, statusWidth));
    const took = pad(formatDuration(result.durationMs), 6, 'right');
    const start = `  ${pad(oneLine(result.name), nameWidth)}   ${status} ${took}   `;
    const { error } = result;
    const first = error === undefined ? outcome(result) : `${oneLine(error.message)} (${error.code})`;
    const more = error === undefined ? [] : details(error, safety(result, now));
    if (result.run !== undefined) more.push(`in an earlier try: run ${result.run}`);
    const warnings = sourceWarnings(result, now);
    more.push(...warnings.slice(0, MAX_WARNINGS).map((text) => `warning: ${oneLine(text)}`));
    const left = warnings.length - MAX_WARNINGS;
    if (left > 0) more.push(`and ${plural(left, 'more warning', 'more warnings')}`);
    const indent = ' '.repeat(displayWidth(start));
    return [start + first, ...more.map((line) => indent + line)];
  });
}

/** Sorts failed sources first, then partly failed ones, then the rest, each in the order of the run. */
export function failuresFirst(results: readonly SourceReport[]): SourceReport[] {
  const rank = { failed: 0, partial: 1, ok: 2 };
  return [...results].sort((a, b) => rank[a.status] - rank[b.status]);
}

/** `next run tomorrow 03:00 CET (in 9h 12m)`. */
export function nextRun(iso: string, { now, zone }: Pick<RenderOptions, 'now' | 'zone'>): string {
  const when = new Date(iso);
  const left = when.getTime() - now.getTime();
  return `next run ${formatWhen(when, { now, zone })}${left > 0 ? ` (in ${formatDuration(left)})` : ''}`;
}

/** `next attempt today 03:10 CET (in 10m)`. */
export function nextTry(iso: string, { now, zone }: Pick<RenderOptions, 'now' | 'zone'>): string {
  return nextRun(iso, { now, zone }).replace('next run', 'next attempt');
}

/** The rate of a source, and the milliseconds left if they can be estimated. */
export interface RateInfo {
  bytesPerSecond: number;
  leftMs?: number | undefined;
}

/**
 * Returns one line about a running source: `db.postgres dumping app 612 MiB of ~1.1 GiB · 214 MiB/s · 3s left`.
 * Redacted.
 */
export function renderProgress(progress: Progress, rate?: RateInfo, nameWidth = 0): string {
  const clean = cleanReport(progress);
  if (clean.waits) return `${pad(oneLine(clean.source), nameWidth)}   ${oneLine(clean.phase)}`;
  const amount = [formatBytes(clean.done)];
  if (clean.total !== undefined && clean.total > 0)
    amount.push(`of ~${formatBytes(Math.max(clean.total, clean.done))}`);
  if (clean.from !== undefined) amount.push(`from ${formatBytes(clean.from)} of data`);
  const parts = [`${oneLine(clean.phase)} ${amount.join(' ')}`];
  if (clean.files !== undefined) parts.push(plural(clean.files, 'file'));
  if (rate !== undefined && rate.bytesPerSecond > 0) parts.push(formatRate(rate.bytesPerSecond));
  if (rate?.leftMs !== undefined) parts.push(`${formatDuration(rate.leftMs)} left`);
  return `${pad(oneLine(clean.source), nameWidth)}   ${parts.join(' · ')}`;
}
