import { stat } from 'node:fs/promises';
import path from 'node:path';
import { waitAtMost } from '../base/abort.ts';
import { errorInfo } from '../base/errors.ts';
import { countDrills } from '../drill/evidence.ts';
import { readEvidence } from '../drill/seen-evidence.ts';
import { listedDrills } from '../overview/drills.ts';
import { collectOverview, type Overview } from '../overview/overview.ts';
import { type RanRun, readRuns } from '../record/run-log.ts';
import type { DrillReport } from '../report/drill-report.ts';
import type { DrillsReport } from '../report/terminal/listed-drill.ts';
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
  /** the same drills as `drills --json` shows them, with their signatures; absent without a repository */
  evidence?: Pick<DrillsReport, 'drills' | 'problems' | 'unsigned'>;
}

type ReadDrills = Pick<Facts, 'drills' | 'evidence'>;

/** Where routes get facts. */
export interface FactsSource {
  /** Returns the facts that were collected last, however old they are. */
  peek(): Facts | undefined;
  /**
   * Returns the present facts. If they are old, new ones are collected. A request waits for them for a few seconds, and
   * then gets the old ones.
   *
   * @throws ENGINE_* and what else a collection throws, if there are no facts yet
   */
  get(): Promise<Facts>;
  /** Returns the age of the facts that were collected last, milliseconds; infinite if there are none. */
  age(): number;
  /** why the facts are old: the last collection failed, or takes long */
  readonly problem: string | undefined;
}

/** Facts older than this are collected again before somebody gets them, milliseconds. */
const MAX_AGE_MS = 300_000;
/** The same for facts without the destination, which may be back. Milliseconds. */
const BROKEN_AGE_MS = 30_000;
/** The longest wait of a request for new facts if there are older ones, milliseconds. A scrape may take 10 s. */
const WAIT_MS = 4000;
/** The time after a collection that failed in which no other one begins, milliseconds. */
const AGAIN_MS = 10_000;
/** The drills that are shown. */
const MAX_DRILLS = 100;
/** The time limit for a collection, milliseconds. */
const LIMIT_MS = 120_000;
/** Files of the state whose change shows that something happened. */
const WATCHED = [
  ...['last-run.json', 'copies.json', 'accepted.json', 'retries.json', 'rollbacks.json', 'damaged.json'],
  ...['measured.json', 'restored.json'],
];

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
  private collecting: { since: number; facts: Promise<Facts> } | undefined;
  private failed: { at: number; error: unknown } | undefined;
  private drills: { count: number } & ReadDrills = { count: 0, drills: [] };
  problem: string | undefined;

  private readonly waitMs: number;
  private readonly againMs: number;

  /** `signal`: ends collections. `limits`: see {@link WAIT_MS} and {@link AGAIN_MS} */
  constructor(deps: HttpDeps, signal: AbortSignal, { waitMs = WAIT_MS, againMs = AGAIN_MS } = {}) {
    this.deps = deps;
    this.signal = signal;
    this.waitMs = waitMs;
    this.againMs = againMs;
  }

  peek(): Facts | undefined {
    return this.facts;
  }

  age(): number {
    return performance.now() - this.at;
  }

  async get(): Promise<Facts> {
    const stamp = await this.stampNow();
    const { facts, failed } = this;
    if (facts && !this.isOld(facts, stamp)) return facts;
    if (failed && performance.now() - failed.at < this.againMs) {
      if (facts) return facts;
      throw failed.error;
    }
    const { since, facts: fresh } = this.collect(stamp);
    if (!facts) return fresh;
    const wait = Math.max(0, since + this.waitMs - performance.now());
    const found = await waitAtMost(wait, fresh).catch(() => facts);
    // The collection may have ended at the same moment.
    if (!found && this.facts === facts) this.problem ??= 'a look at the engine and the destination takes long';
    return found ?? facts;
  }

  /** Returns whether something may have happened since the facts were collected. */
  private isOld({ overview }: Facts, stamp: string): boolean {
    const most = overview.found.problem ? BROKEN_AGE_MS : MAX_AGE_MS;
    if (stamp !== this.stamp || this.age() > most) return true;
    const { at, nextRun } = overview;
    const next = Date.parse(nextRun);
    return at.getTime() < next && next <= this.deps.now().getTime();
  }

  private collect(stamp: string): { since: number; facts: Promise<Facts> } {
    this.collecting ??= { since: performance.now(), facts: this.collectNow(stamp) };
    return this.collecting;
  }

  private collectNow(stamp: string): Promise<Facts> {
    const collecting = this.read()
      .then((facts) => {
        this.facts = facts;
        this.stamp = stamp;
        this.at = performance.now();
        this.problem = undefined;
        this.failed = undefined;
        return facts;
      })
      .catch((error: unknown) => {
        const { message, code } = errorInfo(error);
        // The same line at each try would hide all others in the log.
        if (!this.failed)
          this.deps.log.warn('the facts for the page and the metrics could not be collected', { ...errorInfo(error) });
        this.problem = `${message} (${code})`;
        this.failed = { at: performance.now(), error };
        throw error;
      })
      .finally(() => {
        this.collecting = undefined;
      });
    // A request that has not waited to the end does not see that it failed.
    collecting.catch(() => undefined);
    return collecting;
  }

  private async read(): Promise<Facts> {
    const signal = AbortSignal.any([this.signal, AbortSignal.timeout(LIMIT_MS)]);
    const overview = await collectOverview(this.deps, signal);
    const runs = await readRuns(this.deps.state.directory);
    return { overview, runs, ...(await this.readRecords(overview, signal)) };
  }

  /** Reads the pins and drills of a destination that can be read. */
  private async readRecords({ found }: Overview, signal: AbortSignal): Promise<Pick<Facts, 'pins'> & ReadDrills> {
    const { repository } = found.problem ? {} : await this.deps.own.look();
    const { drills = [], evidence } = this.facts ?? {};
    const before: ReadDrills = evidence ? { drills, evidence } : { drills };
    if (!repository) return { pins: new Map(), ...before };
    const pins = await readPins(repository).catch(() => new Map<string, Pin>());
    return { pins, ...(await this.readDrills(repository, signal).catch(() => before)) };
  }

  /** Evidence never changes, so it is read again only when there is more of it. */
  private async readDrills(repository: Repository, signal: AbortSignal): Promise<ReadDrills> {
    const count = await countDrills(repository);
    if (count !== this.drills.count || !this.drills.evidence) {
      const memory = { directory: this.deps.state.directory, log: this.deps.log };
      const list = await readEvidence(memory, repository, { newest: MAX_DRILLS, signal });
      const { drills, problems, unsigned } = list;
      this.drills = {
        ...{ count, drills: drills.map(({ report }) => report) },
        evidence: { drills: listedDrills(list).reverse(), problems, unsigned },
      };
    }
    const { drills, evidence } = this.drills;
    return evidence ? { drills, evidence } : { drills };
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
