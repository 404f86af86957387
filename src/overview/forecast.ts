import { setImmediate as turn } from 'node:timers/promises';
import { type Decision, decideKept, type KeepRule, type KeepSnapshot } from '../plan/keep.ts';
import type { KeepPolicy, PlannedSource } from '../plan/model.ts';
import { nextRun } from '../plan/values/schedule.ts';
import { keepRules, keepSnapshot } from '../prune/decide.ts';
import type { State } from '../run/state.ts';
import type { Pin } from '../store/repository/pins.ts';
import type { Overview } from './overview.ts';

/** The decision of retention about a snapshot, and the expected time of its removal. */
export interface Foreseen extends Decision {
  /** ISO time of the first prune that removes it; absent: not within the foreseen time */
  goes?: string;
}

const DAY_MS = 86_400_000;
/** The reach of the forecast, in days: first day by day, then week by week. */
const DAYS = 35;
const WEEKS = 52;
/** With more snapshots than this, each decision takes long, and only the next days are foreseen. */
const MANY = 2000;
/** The most runs of one schedule in a day that the forecast adds. */
const MAX_RUNS = 24;

/**
 * Decides about each snapshot as a prune would do now, and foresees when each will go if all runs succeed.
 *
 * @param overview the sources and snapshots
 * @param options `keep`: LIFEBOAT_KEEP; `pins`: by snapshot id
 * @returns newest first, as the snapshots of the overview
 * @throws SETTING_INVALID for a policy that keeps nothing
 */
export async function foreseeRetention(
  overview: Overview,
  { keep, pins, state }: { keep: KeepPolicy; pins: ReadonlyMap<string, Pin>; state: Pick<State, 'accepted'> },
): Promise<Foreseen[]> {
  const { plan, sources, zone, at } = overview;
  const { manifests } = overview.found;
  const rules = keepRules({ manifests, plan, keep, listSourceStatuses: sources, accepted: await state.accepted() });
  const present = manifests.map((manifest) => keepSnapshot(manifest, pins.get(manifest.id)));
  const goes = await foresee(present, rules, { planned: plan.sources, zone, now: at.getTime() });
  return decideKept(present, rules, { zone, now: at.getTime() }).map((decision) => {
    const when = goes.get(decision.id);
    return when === undefined ? decision : { ...decision, goes: new Date(when).toISOString() };
  });
}

/**
 * Plays the future: each schedule adds its snapshots, and a prune each day removes what the rules no longer keep.
 *
 * @returns when each snapshot goes, milliseconds since 1970
 */
async function foresee(
  present: readonly KeepSnapshot[],
  rules: ReadonlyMap<string, KeepRule>,
  { planned, zone, now }: { planned: readonly PlannedSource[]; zone: string; now: number },
): Promise<Map<string, number>> {
  const goes = new Map<string, number>();
  const own = new Set(present.map(({ id }) => id));
  const schedules = Map.groupBy(planned, ({ schedule }) => schedule);
  const spans = [
    ...Array<number>(DAYS).fill(DAY_MS),
    ...Array<number>(present.length > MANY ? 0 : WEEKS).fill(7 * DAY_MS),
  ];
  let sequence = Math.max(0, ...present.map((one) => one.sequence));
  let left = [...present];
  let at = now;
  for (const span of spans) {
    // Other work of the daemon goes on meanwhile.
    await turn();
    for (const [schedule, of] of schedules) {
      for (const start of timesOf(schedule, zone, at, at + span)) {
        sequence += 1;
        left.push(imagined(`future ${sequence}`, { sequence, start }, of));
      }
    }
    at += span;
    const decisions = decideKept(left, rules, { zone, now: at });
    const kept = new Set(decisions.flatMap(({ id, keep }) => (keep ? [id] : [])));
    for (const { id } of left) if (!kept.has(id) && own.has(id)) goes.set(id, at);
    left = left.filter(({ id }) => kept.has(id));
    if (!left.some(({ id }) => own.has(id))) break;
  }
  return goes;
}

function* timesOf(schedule: string, zone: string, from: number, to: number): Generator<number> {
  const most = MAX_RUNS * Math.ceil((to - from) / DAY_MS);
  let next = nextRun(schedule, zone, new Date(from)).getTime();
  for (let count = 0; next <= to && count < most; count++) {
    yield next;
    next = nextRun(schedule, zone, new Date(next)).getTime();
  }
}

function imagined(
  id: string,
  { sequence, start }: { sequence: number; start: number },
  of: readonly PlannedSource[],
): KeepSnapshot {
  const sources = Object.fromEntries(of.map(({ name }) => [name, { status: 'ok' as const }]));
  return { id, sequence, start, end: start, safety: false, sources };
}
