import type { ErrorInfo } from '../base/errors.ts';
import type { OtherSource, RunReport } from '../report/events.ts';
import { lastGoodReport } from '../run/history.ts';
import { knownPlaces } from '../run/remembered.ts';
import { listSourceStatuses, type SourceStatus } from '../run/source-status.ts';
import type { Run } from './begin.ts';
import type { BackupDeps } from './context.ts';
import { vanishedError } from './outcome.ts';

/** Returns the other sources that need attention, because a run of some sources says nothing about the rest. */
export async function findOthers(
  { state, zone, now }: Pick<BackupDeps, 'state' | 'zone' | 'now'>,
  { sources, results: done, trigger }: RunReport,
  { plan, prepared }: Pick<Run, 'plan' | 'prepared'>,
): Promise<OtherSource[]> {
  if (!plan) return [];
  const [results, accepted, places] = await Promise.all([
    state.results().catch(() => ({})),
    state.accepted().catch(() => ({})),
    knownPlaces(state.directory).catch(() => ({})),
  ]);
  const manifests = (prepared?.list.snapshots ?? []).map(({ manifest }) => manifest);
  const all = listSourceStatuses({ plan, manifests, results, accepted, places, zone, now: now() });
  // A source that another schedule will retry is reported by its last try. A manual run reports it now.
  const waiting = trigger === 'manual' ? [] : await state.retries().catch(() => []);
  const awaited = plan.sources.filter(({ schedule }) => waiting.some(({ schedules }) => schedules.includes(schedule)));
  return othersOf(all, [...sources, ...[...done, ...awaited].map(({ name }) => name)]);
}

/** Returns the sources that a run left out and that need attention, except those that no run has covered yet. */
export function othersOf(all: readonly SourceStatus[], done: readonly string[]): OtherSource[] {
  return all.flatMap((source) => {
    const { name, attention, last, lastGood } = source;
    // These are no failures of a run. Its own run, or a check, reported them.
    if (attention === null || attention === 'never' || attention === 'fell') return [];
    if (attention === 'ahead' || attention === 'damaged') return [];
    if (done.includes(name)) return [];
    const error = errorOf(source);
    return [
      {
        name,
        attention,
        ...(last ? { at: last.at } : {}),
        ...(error ? { error } : {}),
        ...(lastGood ? { lastGood: lastGoodReport(lastGood) } : {}),
      },
    ];
  });
}

/** Returns why the last backup of a source failed, or why its next one will; undefined if neither needs attention. */
export function errorOf(source: SourceStatus): ErrorInfo | undefined {
  const { attention, last } = source;
  // The last result of a vanished source is older than what other sources show now.
  if (attention === 'vanished') return vanishedError(source);
  // After an acceptance, a failed result needs no attention any more.
  return attention === 'failed' || attention === 'partial' ? last?.error : undefined;
}
