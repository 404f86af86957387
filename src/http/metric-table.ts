import { ERROR_CODES } from '../base/errors.ts';
import { lastRanOf } from '../overview/past.ts';
import { overviewErrors } from '../overview/problems.ts';
import type { RunStatus } from '../report/events.ts';
import { parseLsn } from '../store/wal/names.ts';
import type { ReceiverState } from '../wal/receiver-state.ts';
import type { Facts } from './facts.ts';
import type { Totals } from './totals.ts';

/** What metrics are computed from. */
export interface MetricInput {
  facts: Facts;
  now: Date;
  version: string;
  /** a run is in progress */
  running: boolean;
  /** the receivers of WAL by the name of the server's source */
  receivers: ReadonlyMap<string, ReceiverState>;
  totals: Totals;
}

/** A value with the labels that it has in addition to `project`. */
export type Sample = readonly [value: number, labels?: Readonly<Record<string, string>>];

/** One metric. docs/monitoring.md lists them all. */
export interface Metric {
  type: 'gauge' | 'counter';
  /** description, as Prometheus shows it */
  help: string;
  /** labels in addition to `project` */
  labels: readonly string[];
  /** Returns no sample for what is unknown. */
  read(input: MetricInput): Sample[];
}

const seconds = (iso: string) => Date.parse(iso) / 1000;
const gauge = (help: string, labels: readonly string[], read: Metric['read']): Metric => ({
  ...{ type: 'gauge', help, labels, read },
});
const counter = (help: string, labels: readonly string[], read: Metric['read']): Metric => ({
  ...{ type: 'counter', help, labels, read },
});

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

/** Metrics of copies. The values of `copy` are the locations of LIFEBOAT_COPY without their options. */
const COPIES: Record<string, Metric> = {
  lifeboat_copy_complete_timestamp_seconds: gauge(
    'Time at which a copy last equalled the destination, seconds since 1970.',
    ['copy'],
    ({ facts }) =>
      facts.overview.copies.flatMap(({ name, complete }): Sample[] =>
        complete === undefined ? [] : [[seconds(complete), { copy: name }]],
      ),
  ),
  lifeboat_copy_lag_seconds: gauge('Time for which a copy has been behind, 0 if it is complete.', ['copy'], (input) =>
    input.facts.overview.copies.flatMap(({ name, behindSince, complete }): Sample[] => {
      if (behindSince !== undefined) return [[since(behindSince, input.now), { copy: name }]];
      return complete === undefined ? [] : [[0, { copy: name }]];
    }),
  ),
};

/** Metrics of recovery to a point in time. The values of `source` are the servers with `lifeboat.postgres.pitr`. */
const RECOVERY: Record<string, Metric> = {
  lifeboat_recoverable_first_timestamp_seconds: gauge(
    'First time to which a server can be recovered, seconds since 1970.',
    ['source'],
    ({ facts }) => ofWindows(facts, (windows) => Math.min(...windows.map(({ from }) => seconds(from)))),
  ),
  lifeboat_recoverable_last_timestamp_seconds: gauge(
    'Last time to which a server can be recovered, seconds since 1970.',
    ['source'],
    ({ facts }) => ofWindows(facts, (windows) => Math.max(...windows.map(({ to }) => seconds(to)))),
  ),
  lifeboat_recoverable_gaps: gauge('Gaps in the times to which a server can be recovered.', ['source'], ({ facts }) =>
    facts.overview.windows.map(({ name, holes }): Sample => [holes.length, { source: name }]),
  ),
  lifeboat_wal_receiving: gauge('1 if WAL of a server is being received, otherwise 0.', ['source'], ({ receivers }) =>
    ofReceivers(receivers, ({ state }) => (state === 'receiving' ? 1 : 0)),
  ),
  lifeboat_wal_lag_bytes: gauge(
    'WAL that a server has written and that is not stored yet.',
    ['source'],
    ({ receivers }) =>
      ofReceivers(receivers, ({ written, stored }) =>
        written === undefined || stored === undefined
          ? undefined
          : Math.max(0, Number(parseLsn(written) - parseLsn(stored))),
      ),
  ),
  lifeboat_wal_lag_seconds: gauge(
    'Age of the last moment at which everything that a server had written was stored.',
    ['source'],
    ({ receivers, now }) =>
      ofReceivers(receivers, ({ confirmed }) => (confirmed ? since(confirmed.at, now) : undefined)),
  ),
  lifeboat_slot_retained_bytes: gauge(
    'WAL that a server keeps for the slot of Lifeboat.',
    ['source'],
    ({ receivers }) => ofReceivers(receivers, ({ kept }) => kept),
  ),
  lifeboat_slot_safe_bytes: gauge('WAL that a server may still write before it drops the slot.', ['source'], (input) =>
    ofReceivers(input.receivers, ({ safe }) => safe),
  ),
};

/** All metrics by name. */
export const METRICS: Readonly<Record<string, Metric>> = { ...PROJECT, ...BACKUPS, ...COPIES, ...RECOVERY };

function since(iso: string, now: Date): number {
  return Math.max(0, now.getTime() / 1000 - seconds(iso));
}

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

type Windows = Facts['overview']['windows'][number]['windows'];

function ofWindows({ overview }: Facts, pick: (windows: Windows) => number): Sample[] {
  return overview.windows.flatMap(({ name, windows }): Sample[] =>
    windows.length === 0 ? [] : [[pick(windows), { source: name }]],
  );
}

function ofReceivers(
  receivers: MetricInput['receivers'],
  pick: (receiver: ReceiverState) => number | undefined,
): Sample[] {
  return [...receivers].flatMap(([source, receiver]): Sample[] => {
    const value = pick(receiver);
    return value === undefined ? [] : [[value, { source }]];
  });
}
