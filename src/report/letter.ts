import { cleanReport } from './clean.ts';
import { formatAgo, formatBytes, formatDuration, formatWhen, oneLine, plural } from './format.ts';

/** The events of one source in the time of a letter. Sizes in bytes. */
export interface LetterSource {
  name: string;
  /** snapshots that hold it, and those in which it failed or is incomplete */
  good: number;
  bad: number;
  /** its size in the newest snapshot, and in the last one before the letter's time; absent if there is none */
  bytes?: number;
  bytesBefore?: number;
  /** added to the repository */
  newBytes: number;
  /** ISO time of its last good snapshot */
  lastGood?: string;
  /** when it was last restored by a restore or a drill, and how long that took, in milliseconds */
  restored?: { at: string; durationMs: number; by: 'restore' | 'drill' };
}

/** A regular letter to people: what happened since the last one, and what needs a person. */
export interface Letter {
  project: string;
  /** ISO times */
  from: string;
  to: string;
  sources: LetterSource[];
  /** snapshots that retention removed */
  pruned: number;
  /** snapshots that the repository holds now */
  snapshots: number;
  /** one line for each copy */
  copies: string[];
  /** one line for each thing that needs a person; empty if all is well */
  needs: string[];
  nextRun?: string;
}

/** Sources in one letter. */
const MAX_SOURCES = 50;

/** Words a letter: its title, its lines, and what to do next. Redacted. */
export function letterText(
  letter: Letter,
  { now, zone }: { now: Date; zone?: string | undefined },
): { title: string; lines: string[]; next: string[] } {
  const { project, from, to, sources, pruned, snapshots, copies, needs, nextRun } = cleanReport(letter);
  const state = needs.length === 0 ? 'all is well' : `${plural(needs.length, 'thing needs', 'things need')} a person`;
  const span = formatDuration(Date.parse(to) - Date.parse(from));
  const made = sources.reduce((sum, { good }) => sum + good, 0);
  const failed = sources.reduce((sum, { bad }) => sum + bad, 0);
  const fresh = sources.reduce((sum, { newBytes }) => sum + newBytes, 0);
  const removed = pruned > 0 ? `${pruned} pruned` : 'none pruned';
  const rest = sources.length - MAX_SOURCES;
  return {
    title: `${oneLine(project)}: the last ${span}: ${state}`,
    lines: [
      ...needs.map((line) => `needs a person: ${oneLine(line)}`),
      `backups: ${made} good, ${failed === 0 ? 'none failed' : `${failed} failed or incomplete`} · ${formatBytes(fresh)} new`,
      `kept: ${plural(snapshots, 'snapshot')}, ${removed}`,
      ...sources.slice(0, MAX_SOURCES).map((source) => sourceLine(source, now)),
      ...(rest > 0 ? [`and ${plural(rest, 'more source')}`] : []),
      ...copies.map(oneLine),
      ...(nextRun ? [`next run ${formatWhen(new Date(nextRun), { now, zone })}`] : []),
    ],
    next: needs.length === 0 ? [] : ['`docker compose exec lifeboat lifeboat status`'],
  };
}

function sourceLine({ name, good, bad, lastGood, restored, ...size }: LetterSource, now: Date): string {
  const proven = restored
    ? `${restored.by === 'drill' ? 'a drill' : 'a restore'} took ${formatDuration(restored.durationMs)}, ${formatAgo(new Date(restored.at), now)}`
    : 'never restored yet';
  const parts = [
    `${plural(good, 'good backup')}${bad > 0 ? `, ${bad} not good` : ''}`,
    ...(lastGood ? [`the last one ${formatAgo(new Date(lastGood), now)}`] : []),
    sizeText(size),
    proven,
  ];
  return `${oneLine(name)}: ${parts.filter((part) => part !== '').join(' · ')}`;
}

/** `18.2 GiB (+1.1 GiB)` */
function sizeText({ bytes, bytesBefore }: Pick<LetterSource, 'bytes' | 'bytesBefore'>): string {
  if (bytes === undefined) return '';
  if (bytesBefore === undefined || bytesBefore === bytes) return formatBytes(bytes);
  const change = bytes - bytesBefore;
  return `${formatBytes(bytes)} (${change > 0 ? '+' : '−'}${formatBytes(Math.abs(change))})`;
}
