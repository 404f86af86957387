import type { KeepPolicy, Plan, PlannedSource } from '../../plan/model.ts';
import { formatKeep } from '../../plan/retention.ts';
import { isFuture } from '../../plan/values/clock.ts';
import type { RunStatus } from '../events.ts';
import { formatAgo, formatBytes, formatDuration, formatWhen, oneLine, plural, table } from '../format.ts';
import { type Paint, plainPaint } from '../paint.ts';
import { problemLines } from '../problem-text.ts';
import { statusWord, triggerText } from '../status-word.ts';
import type { Trigger } from '../trigger.ts';

/** The findings of `plan` about a source. */
export interface Probed {
  what: string;
  /** bytes; absent when it could not be measured in time */
  size?: number;
  /** the size is a lower bound: counting took too long */
  atLeast?: boolean;
}

interface PlanView {
  plan: Plan;
  probes: ReadonlyMap<string, Probed>;
  nextRun: Date;
  now: Date;
  zone: string;
  destination: string;
  /** the copies, with their own retention if they have one */
  copies: readonly { name: string; keep?: KeepPolicy }[];
  /** the encryption at the destination, in words */
  encryption: string;
  /** free bytes at the destination, if known */
  free?: number;
  paint?: Paint;
}

/** Renders the answer of `lifeboat plan`: the sources, the schedule, the places, and the problems. */
export function renderPlan(view: PlanView): string {
  const { plan, probes, now, zone, paint = plainPaint } = view;
  const { sources, problems } = plan;
  const local = formatWhen(view.nextRun, { now, zone });
  const utc = local.endsWith(' UTC') ? '' : `${view.nextRun.toISOString().slice(11, 16)} UTC, `;
  const wait = formatDuration(view.nextRun.getTime() - now.getTime());
  const head = [paint.bold(`Project ${oneLine(plan.project)}`), plural(sources.length, 'source')];
  if (problems.length > 0) head.push(paint.bad(plural(problems.length, 'problem')));
  const lines = [`${head.join(' · ')} · next run ${local} (${utc}in ${wait})`, ''];
  if (sources.length > 0) {
    const rows = sources.map((source) => planRow(source, probes.get(source.name)));
    lines.push(
      ...table([['SOURCE', 'WHAT', 'SIZE', 'SCHEDULE', 'KEEP'], ...rows], { align: ['left', 'left', 'right'] }),
      '',
    );
  }
  if (problems.length > 0) lines.push(...problems.flatMap((problem) => problemLines(problem, paint)), '');
  const notes = plan.notes ?? [];
  if (notes.length > 0) lines.push(...notes.map(({ subject, message }) => noteLine(subject, message, paint)), '');
  const free = view.free === undefined ? '' : ` (${formatBytes(view.free)} free)`;
  const copies = view.copies.map(({ name, keep }) => `${oneLine(name)}${keep ? ` (${formatKeep(keep)})` : ''}`);
  const then = copies.length > 0 ? `, then ${copies.join(' and ')}` : '';
  lines.push(`To ${oneLine(view.destination)}${free}${then} · ${view.encryption}`);
  return lines.join('\n');
}

function noteLine(subject: string, message: string, paint: Paint): string {
  return `  ${paint.dim('·')} ${oneLine(subject)}: ${oneLine(message)}`;
}

function planRow(source: PlannedSource, probed: Probed | undefined): string[] {
  const size = probed?.size === undefined ? '?' : `${probed.atLeast ? '> ' : ''}${formatBytes(probed.size)}`;
  return [oneLine(source.name), oneLine(probed?.what ?? source.kind), size, source.schedule, formatKeep(source.keep)];
}

/** One snapshot, as `snapshots` lists it. */
export interface SnapshotRow {
  id: string;
  end: string;
  status: RunStatus;
  trigger: Trigger;
  /** of an import: when its backup was made, and the name of the file */
  imported?: { at: string; file: string; kind?: string | undefined } | undefined;
  /** the reason of its pin */
  pinned?: string;
  /** not signed although a signing key is set */
  unsigned?: true;
  /** `missing`: databases that should be in it */
  sources: { name: string; status: string; bytes: number; newBytes: number; missing?: string[] }[];
}

/** The table of `lifeboat snapshots`, in the given order. AGE is that of the snapshot, whatever data it holds. */
export function renderSnapshots(snapshots: readonly SnapshotRow[], now: Date): string {
  if (snapshots.length === 0) return 'No snapshot yet.';
  const rows = snapshots.map(({ id, end, status, trigger, imported, pinned, unsigned, sources }) => [
    id,
    formatAgo(new Date(end), now),
    statusWord(status),
    [
      triggerText({ trigger, imported }),
      pinned === undefined ? [] : 'pinned',
      unsigned ? 'not signed' : [],
      isFuture(Date.parse(end), now.getTime()) ? 'dated in the future' : [],
    ]
      .flat()
      .join(', '),
    formatBytes(sum(sources.map(({ bytes }) => bytes))),
    formatBytes(sum(sources.map(({ newBytes }) => newBytes))),
    sources.map(sourceCell).join(' '),
  ]);
  const head = ['SNAPSHOT', 'AGE', 'STATUS', 'TRIGGER', 'SIZE', 'NEW', 'SOURCES'];
  return table([head, ...rows], { align: ['left', 'left', 'left', 'left', 'right', 'right'] }).join('\n');
}

function sourceCell({ name, status, missing = [] }: SnapshotRow['sources'][number]): string {
  if (missing.length > 0) return `${name} (without ${missing.map(oneLine).join(', ')})`;
  return status === 'failed' ? `${name} (failed)` : name;
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
