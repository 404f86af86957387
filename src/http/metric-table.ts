import { ERROR_CODES } from '../base/errors.ts';
import { lastRanOf } from '../overview/past.ts';
import { overviewErrors } from '../overview/problems.ts';
import type { RunStatus } from '../report/events.ts';
import type { Facts } from './facts.ts';
import { counter, gauge, type Metric, type Sample, seconds } from './metric.ts';
import { DRILLS } from './metric-drills.ts';
import { COPIES, SIZES } from './metric-places.ts';
import { RECOVERY } from './metric-recovery.ts';
import { TARGETS } from './metric-targets.ts';

/** Metrics of backups. The values of `source` are the sources of the plan and those that vanished. */
const BACKUPS: Record<string, Metric> = {
  lifeboat_backup_last_success_timestamp_seconds: gauge(
    'End of the last good backup of a source, seconds since 1970.',
    ['source'],
    ({ facts }) =>
      facts.overview.sources.flatMap(({ name, lastGood }): Sample[] =>
        lastGood?.entry.status === 'ok' ? [[seconds(lastGood.at), { source: name }]] : [],
      ),
  ),
  lifeboat_backup_last_run_timestamp_seconds: gauge(
    'End of the last backup of a source, good or not, seconds since 1970.',
    ['source'],
    ({ facts }) =>
      facts.overview.sources.flatMap(({ name, last }): Sample[] =>
        last ? [[seconds(last.at), { source: name }]] : [],
      ),
  ),
  lifeboat_source_ok: gauge('1 if a source needs no attention, otherwise 0.', ['source'], ({ facts }) =>
    facts.overview.sources.map(({ name, attention }): Sample => [attention === null ? 1 : 0, { source: name }]),
  ),
  lifeboat_backup_duration_seconds: gauge('Duration of the last backup of a source.', ['source'], ({ facts }) =>
    lastRan(facts, ({ durationMs }) => durationMs / 1000),
  ),
  lifeboat_backup_size_bytes: gauge('Size of a source in its last good backup.', ['source'], ({ facts }) =>
    ofLastGood(facts, ({ bytes }) => bytes),
  ),
  lifeboat_backup_files: gauge('Files of a source in its last good backup.', ['source'], ({ facts }) =>
    ofLastGood(facts, ({ files }) => files),
  ),
  lifeboat_backup_new_bytes: gauge(
    'Bytes that the last backup of a source added to the repository.',
    ['source'],
    ({ facts }) => lastRan(facts, ({ newBytes }) => newBytes),
  ),
  lifeboat_snapshots: gauge('Snapshots that hold a source.', ['source'], ({ facts }) => {
    const counts = new Map<string, number>(facts.overview.sources.map(({ name }) => [name, 0]));
    for (const { sources } of facts.overview.found.manifests) {
      for (const [name, { status }] of Object.entries(sources))
        if (status !== 'failed' && counts.has(name)) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    return [...counts].map(([source, count]): Sample => [count, { source }]);
  }),
};

/** Metrics of the project as a whole. */
const PROJECT: Record<string, Metric> = {
  lifeboat_build_info: gauge('1, with the version of Lifeboat.', ['version'], ({ version }) => [[1, { version }]]),
  lifeboat_facts_timestamp_seconds: gauge(
    'Time of the last look at the engine and the destination, seconds since 1970.',
    [],
    ({ facts }) => [[facts.overview.at.getTime() / 1000]],
  ),
  lifeboat_destination_up: gauge(
    '1 if the destination could be read at the last look, otherwise 0.',
    [],
    ({ facts }) => [[facts.overview.found.problem ? 0 : 1]],
  ),
  lifeboat_run_in_progress: gauge('1 while a backup or restore runs, otherwise 0.', [], ({ running }) => [
    [running ? 1 : 0],
  ]),
  lifeboat_next_run_timestamp_seconds: gauge(
    'Time of the next scheduled backup, seconds since 1970.',
    [],
    ({ facts }) => [[seconds(facts.overview.nextRun)]],
  ),
  lifeboat_runs_total: counter('Backups that ended since Lifeboat started, by result.', ['status'], ({ totals }) =>
    (['ok', 'partial', 'failed'] satisfies RunStatus[]).map((status): Sample => [totals.runs[status], { status }]),
  ),
  lifeboat_errors_total: counter(
    'Errors of backups since Lifeboat started, by code of docs/errors.md.',
    ['code'],
    ({ totals }) => [...totals.errors].map(([code, count]): Sample => [count, { code }]),
  ),
  lifeboat_problems: gauge('Present problems by code of docs/errors.md.', ['code'], ({ facts }) => {
    const counts = new Map<string, number>();
    for (const { code } of overviewErrors(facts.overview)) {
      // A document of a newer version may name a code that this one does not know.
      const known = code in ERROR_CODES ? code : 'INTERNAL';
      counts.set(known, (counts.get(known) ?? 0) + 1);
    }
    return [...counts].map(([code, count]): Sample => [count, { code }]);
  }),
};

/** All metrics by name. */
export const METRICS: Readonly<Record<string, Metric>> = {
  ...PROJECT,
  ...BACKUPS,
  ...COPIES,
  ...SIZES,
  ...RECOVERY,
  ...DRILLS,
  ...TARGETS,
};

type LastEntry = NonNullable<Facts['overview']['sources'][number]['lastGood']>['entry'];

function ofLastGood({ overview }: Facts, pick: (entry: LastEntry) => number): Sample[] {
  return overview.sources.flatMap(({ name, lastGood }): Sample[] =>
    lastGood ? [[pick(lastGood.entry), { source: name }]] : [],
  );
}

function lastRan({ overview, runs }: Facts, pick: (ran: { durationMs: number; newBytes: number }) => number): Sample[] {
  return overview.sources.flatMap(({ name }): Sample[] => {
    const ran = lastRanOf(runs, name);
    return ran ? [[pick(ran), { source: name }]] : [];
  });
}
