import { lastDrillOf } from '../overview/drills.ts';
import type { DrillReport, DrillResult } from '../report/drill-report.ts';
import { gauge, type Metric, type MetricInput, type Sample, seconds } from './metric.ts';

/** Metrics of drills. A drill that ended early, or had no key, proves nothing about a source and does not count. */
export const DRILLS: Record<string, Metric> = {
  lifeboat_drill_last_timestamp_seconds: gauge(
    'End of the last drill that restored a source, seconds since 1970.',
    ['source'],
    (input) => ofDrills(input, (_, { end }) => seconds(end)),
  ),
  lifeboat_drill_ok: gauge(
    '1 if the last drill of a source found everything equal, otherwise 0.',
    ['source'],
    (input) => ofDrills(input, ({ status }) => (status === 'ok' ? 1 : 0)),
  ),
  lifeboat_drill_last_success_timestamp_seconds: gauge(
    'End of the last drill of a source that found everything equal, seconds since 1970.',
    ['source'],
    ({ facts }) =>
      facts.overview.sources.flatMap(({ name }): Sample[] => {
        const good = lastDrillOf(facts.drills, name, { statuses: ['ok'], home: facts.overview.destination });
        return good ? [[seconds(good.report.end), { source: name }]] : [];
      }),
  ),
  lifeboat_drill_restore_duration_seconds: gauge(
    'Time that the last drill needed to restore a source: the measured recovery time.',
    ['source'],
    (input) => ofDrills(input, ({ restoreMs }) => (restoreMs === undefined ? undefined : restoreMs / 1000)),
  ),
};

function ofDrills(
  { facts }: MetricInput,
  pick: (result: DrillResult, report: DrillReport) => number | undefined,
): Sample[] {
  return facts.overview.sources.flatMap(({ name }): Sample[] => {
    const last = lastDrillOf(facts.drills, name, { home: facts.overview.destination });
    const value = last && pick(last.result, last.report);
    return value === undefined ? [] : [[value, { source: name }]];
  });
}
