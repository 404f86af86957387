import { parseLsn } from '../store/wal/names.ts';
import type { ReceiverState } from '../wal/receiver-state.ts';
import type { Facts } from './facts.ts';
import { gauge, type Metric, type MetricInput, type Sample, seconds, since } from './metric.ts';

/** Metrics of recovery to a point in time. The values of `source` are the servers with `lifeboat.postgres.pitr`. */
export const RECOVERY: Record<string, Metric> = {
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
