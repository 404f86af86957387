import { stat } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
import { countDrills, readDrills } from '../drill/evidence.ts';
import { collectOverview, type Overview } from '../overview/overview.ts';
import { type RanRun, readRuns } from '../record/run-log.ts';
import type { DrillReport } from '../report/drill-report.ts';
import { type Pin, readPins } from '../store/repository/pins.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { HttpDeps } from './deps.ts';

/** The facts that pages and metrics show. */
export interface Facts {
  overview: Overview;
  /** runs that ended, oldest first */
  runs: RanRun[];
  /** pins by snapshot id */
  pins: ReadonlyMap<string, Pin>;
  /** the newest drills, oldest first */
  drills: DrillReport[];
}

/** Where routes get facts. */
export interface FactsSource {
  /** Returns the facts that were collected last, however old they are. */
  peek(): Facts | undefined;
  /**
   * Returns the present facts. Old ones are returned at once, and collected again meanwhile.
   *
   * @throws ENGINE_* and what else a collection throws, if there are no facts yet or the state has changed
   */
  get(): Promise<Facts>;
  /** why the last collection failed, if the facts are older than that */
  readonly problem: string | undefined;
}

/** Facts older than this are collected again when somebody asks, milliseconds. */
const MAX_AGE_MS = 300_000;
/** The drills that are shown. */
const MAX_DRILLS = 100;
/** The time limit for a collection, milliseconds. */
const LIMIT_MS = 120_000;
/** Files of the state whose change shows that something happened. */
const WATCHED = ['last-run.json', 'copies.json', 'accepted.json', 'retries.json', 'rollbacks.json', 'damaged.json'];

/**
 * Facts that many requests share. A collection looks at the engine and the destination, so a scrape every few seconds
 * must not make one. New facts are collected if the state between runs has changed, and every few minutes otherwise.
 */
export class FactsCache implements FactsSource {
  private readonly deps: HttpDeps;
  private readonly signal: AbortSignal;
  private facts: Facts | undefined;
  private stamp = '';
  /** by a clock that nobody sets, milliseconds */
  private at = Number.NEGATIVE_INFINITY;
  private collecting: Promise<Facts> | undefined;
  private drills: { count: number; reports: DrillReport[] } = { count: 0, reports: [] };
  problem: string | undefined;

  /** `signal`: ends collections */
  constructor(deps: HttpDeps, signal: AbortSignal) {
    this.deps = deps;
    this.signal = signal;
  }

  peek(): Facts | undefined {
    return this.facts;
  }

  async get(): Promise<Facts> {
    const stamp = await this.stampNow();
    if (!this.facts) return this.collect(stamp);
    if (stamp !== this.stamp) return this.collect(stamp).catch(() => this.facts as Facts);
    if (performance.now() - this.at > MAX_AGE_MS) this.collect(stamp).catch(() => undefined);
    return this.facts;
  }

  private collect(stamp: string): Promise<Facts> {
    this.collecting ??= this.read()
      .then((facts) => {
        this.facts = facts;
        this.stamp = stamp;
        this.at = performance.now();
        this.problem = undefined;
        return facts;
      })
      .catch((error: unknown) => {
        const { message, code } = errorInfo(error);
        this.problem = `${message} (${code})`;
        this.deps.log.warn('the facts for the page and the metrics could not be collected', { ...errorInfo(error) });
        throw error;
      })
      .finally(() => {
        this.collecting = undefined;
      });
    return this.collecting;
  }

  private async read(): Promise<Facts> {
    const signal = AbortSignal.any([this.signal, AbortSignal.timeout(LIMIT_MS)]);
    const overview = await collectOverview(this.deps, signal);
    const runs = await readRuns(this.deps.state.directory);
    return { overview, runs, ...(await this.readRecords(overview, signal)) };
  }

  /** Reads the pins and drills of a destination that can be read. */
  private async readRecords({ found }: Overview, signal: AbortSignal): Promise<Pick<Facts, 'pins' | 'drills'>> {
    const { repository } = found.problem ? {} : await this.deps.own.look();
    if (!repository) return { pins: new Map(), drills: this.facts?.drills ?? [] };
    const pins = await readPins(repository).catch(() => new Map<string, Pin>());
    return {
      pins,
      drills: await this.readDrills(repository, signal).catch(() => this.facts?.drills ?? []),
    };
  }

  /** Evidence never changes, so it is read again only when there is more of it. */
  private async readDrills(repository: Repository, signal: AbortSignal): Promise<DrillReport[]> {
    const count = await countDrills(repository);
    if (count === this.drills.count) return this.drills.reports;
    const { drills } = await readDrills(repository, { newest: MAX_DRILLS, signal });
    this.drills = { count, reports: drills.map(({ report }) => report) };
    return this.drills.reports;
  }

  private async stampNow(): Promise<string> {
    const { directory } = this.deps.state;
    const times = WATCHED.map((name) =>
      stat(path.join(directory, name), { bigint: true }).then(
        ({ mtimeNs }) => String(mtimeNs),
        () => '',
      ),
    );
    return (await Promise.all(times)).join();
  }
}
