import { Counter, Gauge, Registry } from 'prom-client';
import { openReceiverMemory, type ReceiverState } from '../wal/receiver-state.ts';
import type { HttpDeps } from './deps.ts';
import type { FactsSource } from './facts.ts';
import type { MetricInput } from './metric.ts';
import { METRICS } from './metric-table.ts';
import { RunCounter } from './totals.ts';

/**
 * Renders metrics in the text format of Prometheus.
 *
 * @param project value of the label `project` of every sample
 * @param input what the metrics are computed from
 */
function renderMetrics(project: string, input: MetricInput): Promise<string> {
  // A new registry each time, so that a source that is gone leaves no old sample behind.
  const registry = new Registry();
  for (const [name, { type, help, labels, read }] of Object.entries(METRICS)) {
    const options = { name, help, labelNames: ['project', ...labels], registers: [registry] };
    const [gauge, counter] = type === 'gauge' ? [new Gauge(options)] : [undefined, new Counter(options)];
    for (const [value, own] of read(input)) {
      // Two values of one series would be added by `inc`.
      gauge?.set({ project, ...own }, value);
      counter?.inc({ project, ...own }, value);
    }
  }
  return registry.metrics();
}

/** Creates the function that answers `/metrics`. Reads the shared facts, and small files of the spool. */
export function createMetrics(deps: HttpDeps, facts: FactsSource): () => Promise<string> {
  const counter = new RunCounter(deps.now().toISOString());
  return async () => {
    const now = await facts.get();
    counter.see(now.runs);
    const { plan } = now.overview;
    const receivers = await readReceivers(
      deps,
      plan.sources.flatMap((one) => (one.kind === 'base' ? [one.server] : [])),
    );
    const running = (await deps.runsUnderWay()).length > 0;
    const { version, project } = deps;
    return renderMetrics(project, {
      ...{ facts: now, now: deps.now(), version, running, receivers, totals: counter.totals },
    });
  };
}

async function readReceivers({ state }: HttpDeps, names: readonly string[]): Promise<Map<string, ReceiverState>> {
  const memory = openReceiverMemory(state.directory);
  const found = new Map<string, ReceiverState>();
  for (const name of names) {
    const receiver = await memory.state(name).catch(() => undefined);
    if (receiver) found.set(name, receiver);
  }
  return found;
}
