import type { Problem } from '../plan/model.ts';
import type { CopyReport, Pruned } from './events.ts';
import { formatAge, formatAgo, formatBytes, oneLine, plural } from './format.ts';
import { type Paint, plainPaint } from './paint.ts';
import { detailLines } from './problem-text.ts';
import { prunedParts } from './prune-text.ts';

/** Returns whether a copy has everything, and no problem that is an error. */
export function isCopyOk({ status, problems = [] }: Pick<CopyReport, 'status' | 'problems'>): boolean {
  return status === 'ok' && !problems.some(({ severity }) => severity === 'error');
}

/** Returns one line about a copy that is not up to date: `copy s3://… has been behind for 2 days: … (CODE)`. */
export function copyBehind(
  { name, behindSince, error }: Pick<CopyReport, 'name' | 'behindSince' | 'error'>,
  now: Date,
): string {
  const state =
    behindSince === undefined
      ? 'is behind'
      : `has been behind for ${formatAge(now.getTime() - Date.parse(behindSince))}`;
  const why = error === undefined ? '' : `: ${oneLine(error.message)} (${error.code})`;
  return `copy ${oneLine(name)} ${state}${why}`;
}

/** Returns the lines about each copy after a run. Not redacted. */
export function copyLines(copies: readonly CopyReport[], now: Date, paint: Paint = plainPaint): string[] {
  return copies.flatMap((copy) => {
    const { status, error, problems, pruned, pruneError } = copy;
    const lines =
      status === 'ok'
        ? [`  copy ${oneLine(copy.name)} is up to date${sent(copy)}${removed(pruned)}`]
        : [`  ${paint.bad('!')} ${copyBehind(copy, now)}`];
    lines.push(...detailLines(error ?? {}).map(indent));
    lines.push(...problemsOf(copy.name, problems, paint));
    if (pruneError) {
      const why = `${oneLine(pruneError.message)} (${pruneError.code})`;
      lines.push(`  ${paint.warn('!')} copy ${oneLine(copy.name)}: old snapshots could not be removed: ${why}`);
    }
    return lines;
  });
}

function problemsOf(name: string, problems: readonly Problem[] = [], paint: Paint): string[] {
  return problems.flatMap((problem) => [
    `  ${paint.warn('!')} copy ${oneLine(name)}: ${oneLine(problem.message)} (${problem.code})`,
    ...detailLines(problem).map(indent),
  ]);
}

const indent = (line: string) => `    ${line}`;

function sent({ snapshots, objects, bytes }: CopyReport): string {
  if (snapshots === 0 && objects === 0) return '';
  return ` · ${plural(snapshots, 'snapshot')}, ${formatBytes(bytes)} sent`;
}

function removed(pruned: Pruned | undefined): string {
  return pruned
    ? prunedParts(pruned)
        .map((part) => ` · ${part}`)
        .join('')
    : '';
}

/** Returns the lines about each copy for `status`. */
export function copyStateLines(
  copies: readonly (Pick<CopyReport, 'name' | 'behindSince' | 'error' | 'problems'> & {
    complete?: string;
    made?: string;
  })[],
  now: Date,
  paint: Paint = plainPaint,
): string[] {
  return copies.flatMap(({ complete, made, problems, ...copy }) => {
    // Without a record, the copy is new, or the state in the spool was lost.
    const none = made === undefined && copy.behindSince === undefined ? 'no record of it yet' : 'never complete yet';
    const last = complete === undefined ? none : `complete ${formatAgo(new Date(complete), now)}`;
    const more = problemsOf(copy.name, problems, paint);
    if (copy.behindSince === undefined) return [`  copy ${oneLine(copy.name)} · ${last}`, ...more];
    const details = detailLines(copy.error ?? {}).map(indent);
    return [`  ${paint.bad('!')} ${copyBehind(copy, now)} · ${last}`, ...details, ...more];
  });
}
