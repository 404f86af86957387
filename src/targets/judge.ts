import type { PlannedSource } from '../plan/model.ts';
import { formatAge, formatDuration, formatWhen } from '../report/format.ts';
import type { ReceiverState } from '../wal/receiver-state.ts';
import type { Measurement } from './measured.ts';

/** One target of a source, and what is measured. Times in milliseconds. */
export interface TargetState {
  kind: 'rpo' | 'rto';
  targetMs: number;
  /** absent if nothing was measured yet */
  measuredMs?: number;
  /** null: nothing was measured yet */
  met: boolean | null;
  /** ISO time since when it is not met */
  since?: string;
  /** why it is not met, or not known: one line */
  why?: string;
  /** what limits the loss of work; absent for `rto` */
  by?: 'snapshots' | 'wal';
}

/** The facts by which a source is judged. */
export interface Known {
  /** ISO time of its last good snapshot; absent if there is none */
  lastGood?: string | undefined;
  /** ISO time since when the agent knows the source */
  seen: string;
  /** the last report of the receiver of its WAL */
  receiver?: ReceiverState | undefined;
  /** a base backup is stored, from which the WAL leads on */
  hasBase?: boolean;
  /** how long the last restore or drill took */
  measured?: Measurement | undefined;
}

/** A report of a receiver counts for this long, milliseconds. It is saved at least every ten seconds. */
const FRESH_MS = 60_000;

/**
 * Judges the targets of a source.
 *
 * @param source of the plan; base backups have no target of their own
 * @param known what is measured
 * @param now the time of the judgement
 * @returns one state for each target that the source has
 */
export function judgeTargets(source: PlannedSource, known: Known, now: Date): TargetState[] {
  const { rpoMs, rtoMs } = source;
  if (source.kind === 'base') return [];
  return [
    ...(rpoMs === undefined ? [] : [judgeRpo(rpoMs, known, now)]),
    ...(rtoMs === undefined ? [] : [judgeRto(rtoMs, known.measured, now)]),
  ];
}

/**
 * Without recovery to a point in time, the newest good snapshot is what a new host gets. With it, everything up to the
 * end of the stored WAL is, or the snapshot if that is newer.
 */
function judgeRpo(targetMs: number, known: Known, now: Date): TargetState {
  const { receiver, hasBase, lastGood } = known;
  if (receiver?.confirmed === undefined || !hasBase) return bySnapshots(targetMs, known, now);
  const confirmed = receiver.confirmed.at;
  const state = byWal(targetMs, receiver, confirmed, now);
  const isOlder = lastGood !== undefined && Date.parse(lastGood) > Date.parse(confirmed);
  return !state.met && isOlder ? bySnapshots(targetMs, known, now) : state;
}

function bySnapshots(targetMs: number, { lastGood, seen }: Known, now: Date): TargetState {
  const { lossMs, met, since } = lossOf(lastGood ?? seen, targetMs, now);
  const state = { kind: 'rpo', by: 'snapshots', targetMs, ...(lastGood ? { measuredMs: lossMs } : {}) } as const;
  const why = lastGood ? `its last good snapshot is ${formatAge(lossMs)} old` : 'it has no good snapshot';
  if (!met) return { ...state, met, since, why: `${why}; the target is ${formatDuration(targetMs)}` };
  return lastGood ? { ...state, met } : { ...state, met: null, why };
}

function byWal(targetMs: number, { at, state, error }: ReceiverState, confirmed: string, now: Date): TargetState {
  // By the server's clock, as long as the receiver looks at the server.
  const isFresh = state === 'receiving' && at !== undefined && Math.abs(now.getTime() - Date.parse(at)) < FRESH_MS;
  const { lossMs, met, since } = lossOf(confirmed, targetMs, isFresh ? new Date(at) : now);
  const judged = { kind: 'rpo', by: 'wal', targetMs, measuredMs: lossMs } as const;
  if (met) return { ...judged, met };
  const cause = error === undefined ? '' : `: ${error.message} (${error.code})`;
  const why = `the stored WAL is ${formatDuration(lossMs)} behind; the target is ${formatDuration(targetMs)}${cause}`;
  return { ...judged, met, since, why };
}

function lossOf(until: string, targetMs: number, now: Date): { lossMs: number; met: boolean; since: string } {
  const lossMs = Math.max(0, now.getTime() - Date.parse(until));
  return { lossMs, met: lossMs <= targetMs, since: new Date(Date.parse(until) + targetMs).toISOString() };
}

function judgeRto(targetMs: number, measured: Measurement | undefined, now: Date): TargetState {
  if (!measured) return { kind: 'rto', targetMs, met: null, why: 'no restore or drill has measured it yet' };
  const { durationMs, at, by } = measured;
  const state = { kind: 'rto', targetMs, measuredMs: durationMs } as const;
  if (durationMs <= targetMs) return { ...state, met: true };
  const took = `the last ${by}, ${formatWhen(new Date(at), { now })}, took ${formatDuration(durationMs)}`;
  return { ...state, met: false, since: at, why: `${took}; the target is ${formatDuration(targetMs)}` };
}

/** Returns one line about a target: `RPO 1d: 23h (met)`. */
export function targetText({ kind, targetMs, measuredMs, met, since, why }: TargetState, now: Date): string {
  const head = `${kind.toUpperCase()} ${formatDuration(targetMs)}`;
  if (met === null) return `${head}: not known, ${why}`;
  if (met) return `${head}: met (${formatDuration(measuredMs ?? 0)})`;
  const ago = since === undefined ? '' : ` for ${formatAge(now.getTime() - Date.parse(since))}`;
  return `${head}: not met${ago}: ${why}`;
}

/** Returns the command to type about a target that is not met. */
export function nextCommand(source: string, { by }: Pick<TargetState, 'by'>): string {
  if (by === 'snapshots') return `lifeboat backup ${source}`;
  return by === 'wal' ? `lifeboat windows ${source}` : 'lifeboat status';
}
