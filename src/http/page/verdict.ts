import { lastDrillOf } from '../../overview/drills.ts';
import type { Overview } from '../../overview/overview.ts';
import { destinationErrors, projectProblems } from '../../overview/problems.ts';
import type { DrillReport } from '../../report/drill-report.ts';
import { formatAgo, formatWhen, oneLine, plural } from '../../report/format.ts';
import { joinNames, type Tone } from './text.ts';

/** The state of the project in words. */
interface Verdict {
  tone: Tone;
  /** one sentence */
  text: string;
  /** more sentences: the last backup, the copies, the next run */
  more: string[];
}

/** Judges the project as a whole. Names are as they are: the page escapes them. */
export function judge(overview: Overview, now: Date, drills: readonly DrillReport[] = []): Verdict {
  const { sources } = overview;
  const more = [
    lastText(overview, now),
    drillText(overview, now, drills),
    ...copyTexts(overview, now),
    nextText(overview, now),
  ].filter((text) => text !== '');
  const bad = sources.filter(({ attention }) => attention !== null && attention !== 'never');
  const never = sources.filter(({ attention }) => attention === 'never');
  if (destinationErrors(overview).length > 0 && overview.found.problem) {
    return { tone: 'bad', text: `The backups at ${overview.destination} cannot be read.`, more };
  }
  if (sources.length === 0) {
    return { tone: 'bad', text: 'Nothing is backed up: no service has a label of Lifeboat.', more };
  }
  if (bad.length > 0) {
    const verb = bad.length === 1 ? 'needs' : 'need';
    const of = sources.length === 1 ? '' : `${bad.length} of ${plural(sources.length, 'source')} ${verb} attention: `;
    const names = joinNames(bad.map(({ name }) => name));
    const text = of === '' ? `${names} needs attention.` : `${of}${names}.`;
    return { tone: bad.some(isUnsafe) ? 'bad' : 'warn', text, more };
  }
  if (never.length > 0) {
    const names = joinNames(never.map(({ name }) => name));
    return { tone: 'warn', text: `No backup yet of ${names}.`, more };
  }
  const behind = overview.copies.filter(({ behindSince }) => behindSince !== undefined);
  const all =
    sources.length === 1
      ? `${oneLine(sources[0]?.name ?? '')} is safe`
      : `All ${inWords(sources.length, 'source')} are safe`;
  if (behind.length > 0) {
    return { tone: 'warn', text: `${all}, but ${joinNames(behind.map(({ name }) => name))} is behind.`, more };
  }
  const problems = projectProblems(overview).filter(({ severity }) => severity === 'error').length;
  if (problems > 0)
    return {
      tone: 'warn',
      text: `${all}, but there ${problems === 1 ? 'is a problem' : `are ${plural(problems, 'problem')}`}.`,
      more,
    };
  return { tone: 'ok', text: `${all}.`, more };
}

/** A source without any good snapshot, or one that has lost data, is not safe. */
function isUnsafe({ attention, lastGood }: Overview['sources'][number]): boolean {
  return lastGood === undefined || attention === 'damaged' || attention === 'fell';
}

const NUMBERS = ['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];

/** `four sources`, `11 sources`; not for 1. */
function inWords(count: number, noun: string): string {
  return [NUMBERS[count] ?? String(count), `${noun}s`].join(' ');
}

function lastText({ sources, last }: Overview, now: Date): string {
  const newest = sources
    .flatMap(({ lastGood }) => (lastGood ? [lastGood.at] : []))
    .sort()
    .at(-1);
  if (newest !== undefined) return `Last backup ${formatAgo(new Date(newest), now)}.`;
  return last ? `The last run, ${formatAgo(new Date(last.end), now)}, stored nothing.` : 'No run yet.';
}

/** The oldest proof counts: everything was proven by then. */
function drillText({ sources }: Overview, now: Date, drills: readonly DrillReport[]): string {
  const proofs = sources.flatMap(({ name }) => lastDrillOf(drills, name, ['ok'])?.report.end ?? []).sort();
  const [oldest] = proofs;
  if (oldest === undefined) return '';
  const ago = formatAgo(new Date(oldest), now);
  const failed = sources.filter(({ name }) => lastDrillOf(drills, name)?.result.status === 'failed');
  if (failed.length > 0) return `The last drill of ${joinNames(failed.map(({ name }) => name))} failed.`;
  return `Proven by a drill ${ago}.`;
}

function copyTexts({ copies, destination }: Overview, now: Date): string[] {
  const complete = copies.filter((copy) => copy.complete !== undefined && copy.behindSince === undefined);
  if (copies.length === 0) return [`Stored at ${destination} only.`];
  if (complete.length === 0) return [];
  const oldest = complete.map((copy) => copy.complete ?? '').sort()[0] ?? '';
  return [
    `Everything is also at ${joinNames(complete.map(({ name }) => name))}, complete ${formatAgo(new Date(oldest), now)}.`,
  ];
}

function nextText({ nextRun, retryAt, zone }: Overview, now: Date): string {
  const when = (iso: string) => formatWhen(new Date(iso), { now, zone });
  if (retryAt !== undefined) return `What failed is tried again ${when(retryAt)}.`;
  return `Next run ${when(nextRun)}.`;
}
