import { lastDrillOf } from '../../overview/drills.ts';
import type { Overview } from '../../overview/overview.ts';
import { destinationErrors, projectProblems } from '../../overview/problems.ts';
import type { DrillReport } from '../../report/drill-report.ts';
import { formatAgo, formatWhen, oneLine, plural } from '../../report/format.ts';
import { joinNames, type Tone } from './text.ts';
import { findTroubles } from './trouble.ts';

/** The state of the project in words. */
interface Verdict {
  tone: Tone;
  /** one sentence */
  text: string;
  /** more sentences: the last backup, the copies, the next run */
  more: string[];
}

/** The facts that a verdict needs in addition to the overview. */
interface VerdictInput {
  now: Date;
  /** oldest first */
  drills?: readonly DrillReport[];
  /** the overview is old, because Lifeboat cannot look again */
  isStale?: boolean;
}

/** Judges the project as a whole. Names are as they are: the page escapes them. */
export function judge(overview: Overview, { now, drills = [], isStale = false }: VerdictInput): Verdict {
  const more = [
    lastText(overview, now),
    drillText(overview, now, drills),
    ...copyTexts(overview, now),
    nextText(overview, now),
  ].filter((text) => text !== '');
  const { tone, text } = judgeNow(overview, drills);
  if (!isStale) return { tone, text, more };
  return {
    tone: tone === 'bad' ? 'bad' : 'warn',
    text: `The state is unknown: the last look was ${formatAgo(overview.at, now)}.`,
    more: [`At that time: ${text}`, ...more],
  };
}

function judgeNow(overview: Overview, drills: readonly DrillReport[]): Pick<Verdict, 'tone' | 'text'> {
  const { sources } = overview;
  if (overview.found.problem) {
    return { tone: 'bad', text: `The backups at ${overview.destination} cannot be read.` };
  }
  if (sources.length === 0) {
    const isWrong = projectProblems(overview).some(({ severity }) => severity === 'error');
    return { tone: 'bad', text: `Nothing is backed up${isWrong ? '' : ': no service has a label of Lifeboat'}.` };
  }
  const troubles = findTroubles(overview, drills);
  const bad = sources.filter(({ name, attention }) =>
    attention === null ? troubles.has(name) : attention !== 'never',
  );
  if (bad.length > 0) {
    const verb = bad.length === 1 ? 'needs' : 'need';
    const of = sources.length === 1 ? '' : `${bad.length} of ${plural(sources.length, 'source')} ${verb} attention: `;
    const names = joinNames(bad.map(({ name }) => name));
    const text = of === '' ? `${names} needs attention.` : `${of}${names}.`;
    const isBad = bad.some((one) => isUnsafe(one) || troubles.get(one.name)?.tone === 'bad');
    return { tone: isBad ? 'bad' : 'warn', text };
  }
  const never = sources.filter(({ attention }) => attention === 'never');
  if (never.length > 0) return { tone: 'warn', text: `No backup yet of ${joinNames(never.map(({ name }) => name))}.` };
  const all =
    sources.length === 1
      ? `${oneLine(sources[0]?.name ?? '')} is safe`
      : `All ${inWords(sources.length, 'source')} are safe`;
  const but = reservation(overview);
  return but === undefined ? { tone: 'ok', text: `${all}.` } : { tone: 'warn', text: `${all}, but ${but}.` };
}

/** Returns what is wrong although all sources are safe at the destination. */
function reservation(overview: Overview): string | undefined {
  const { copies, last } = overview;
  const named = (of: typeof copies, one: string, many: string) =>
    of.length === 0 ? undefined : `${joinNames(of.map(({ name }) => name))} ${of.length === 1 ? one : many}`;
  const behind = named(copies.filter(isBehind), 'is behind', 'are behind');
  if (behind !== undefined) return behind;
  const empty = copies.filter(({ complete }) => complete === undefined);
  if (empty.length > 0) return `nothing is at ${joinNames(empty.map(({ name }) => name))} yet`;
  const problems = [
    ...destinationErrors(overview),
    ...projectProblems(overview).filter(({ severity }) => severity === 'error'),
  ].length;
  if (problems > 0) return `there ${problems === 1 ? 'is a problem' : `are ${plural(problems, 'problem')}`}`;
  return last?.status === 'failed' ? 'the last run failed' : undefined;
}

const isBehind = ({ behindSince }: Overview['copies'][number]) => behindSince !== undefined;

/** A source without any good snapshot, or one that has lost data, is not safe. */
function isUnsafe({ attention, lastGood }: Overview['sources'][number]): boolean {
  return lastGood === undefined || attention === 'damaged' || attention === 'fell';
}

const NUMBERS = ['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];

/** `four sources`, `11 sources`; not for 1. */
function inWords(count: number, noun: string): string {
  return [NUMBERS[count] ?? String(count), `${noun}s`].join(' ');
}

function lastText({ sources, last, found }: Overview, now: Date): string {
  const newest = sources
    .flatMap(({ lastGood }) => (lastGood ? [lastGood.at] : []))
    .sort()
    .at(-1);
  if (newest !== undefined) return `Last backup ${formatAgo(new Date(newest), now)}.`;
  // Without the destination, nobody knows what was stored.
  if (found.problem) return '';
  return last ? `The last run, ${formatAgo(new Date(last.end), now)}, stored nothing.` : 'No run yet.';
}

/**
 * The oldest proof counts: everything was proven by then. A source without a proof is not counted as proven. Base
 * backups count like all other sources: a drill of one recovers its server.
 */
function drillText({ sources, destination: home }: Overview, now: Date, drills: readonly DrillReport[]): string {
  const failed = sources.filter(({ name }) => lastDrillOf(drills, name, { home })?.result.status === 'failed');
  if (failed.length > 0) return `The last drill of ${joinNames(failed.map(({ name }) => name))} failed.`;
  const proofs = sources
    .flatMap(({ name }) => lastDrillOf(drills, name, { statuses: ['ok'], home })?.report.end ?? [])
    .sort();
  const [oldest] = proofs;
  if (oldest === undefined) return '';
  const ago = formatAgo(new Date(oldest), now);
  if (proofs.length === sources.length) return `Proven by a drill ${ago}.`;
  return `${proofs.length} of ${plural(sources.length, 'source')} proven by a drill ${ago}.`;
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
