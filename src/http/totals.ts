import type { ErrorCode } from '../base/errors.ts';
import type { RanRun } from '../record/run-log.ts';
import type { RunStatus } from '../report/events.ts';

/** Counts of runs and errors since the daemon started. They only grow, as Prometheus expects of counters. */
export interface Totals {
  runs: Record<RunStatus, number>;
  errors: Map<ErrorCode, number>;
}

/** Counts the runs of a log that ended after `start`, each once. */
export class RunCounter {
  readonly totals: Totals = { runs: { ok: 0, partial: 0, failed: 0 }, errors: new Map() };
  private last: { id: string; end: string };

  /** `start`: ISO time */
  constructor(start: string) {
    this.last = { id: '', end: start };
  }

  /** Counts new runs. `runs`: the log, oldest first; its oldest part may be gone. */
  see(runs: readonly RanRun[]): void {
    const at = runs.findLastIndex(({ id }) => id === this.last.id);
    const fresh = at >= 0 ? runs.slice(at + 1) : runs.filter(({ end }) => end > this.last.end);
    const newest = runs.at(-1);
    // From then on, no clock decides which runs are new.
    if (newest) this.last = { id: newest.id, end: newest.end };
    for (const run of fresh) {
      this.totals.runs[run.status] += 1;
      const codes = new Set(Object.values(run.sources).flatMap(({ code }) => code ?? []));
      if (run.code) codes.add(run.code);
      for (const code of codes) this.totals.errors.set(code, (this.totals.errors.get(code) ?? 0) + 1);
    }
  }
}
