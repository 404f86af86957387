import type { ReceiverState } from '../wal/receiver-state.ts';
import type { Facts } from './facts.ts';
import type { Totals } from './totals.ts';

/** The data from which metrics are computed. */
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

/** Converts an ISO time to seconds since 1970. */
export const seconds = (iso: string) => Date.parse(iso) / 1000;

/** Defines a gauge. */
export const gauge = (help: string, labels: readonly string[], read: Metric['read']): Metric => ({
  ...{ type: 'gauge', help, labels, read },
});

/** Defines a counter. */
export const counter = (help: string, labels: readonly string[], read: Metric['read']): Metric => ({
  ...{ type: 'counter', help, labels, read },
});

/** Returns how long ago an ISO time was, in seconds; 0 if it is in the future. */
export function since(iso: string, now: Date): number {
  return Math.max(0, now.getTime() / 1000 - seconds(iso));
}
