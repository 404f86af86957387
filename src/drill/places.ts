import { type ErrorCode, type ErrorInfo, errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { listOnce } from '../destinations/list-once.ts';
import { goneAway } from '../store/repository/copy-objects.ts';
import { DamageJudge, isDamage } from '../store/repository/damage.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { TreeStore } from '../trees/runner.ts';

/** A place that holds the snapshots: the repository, or a copy of it. */
export interface DrillPlace {
  name: string;
  /** Opens the repository there. Throws like {@link openRepository}, and what the destination throws. */
  repository(): Promise<Repository>;
  treeStore: TreeStore;
}

/** Codes of a place that cannot be read as a whole, or refuses the key. They say nothing about a snapshot. */
const AWAY: readonly ErrorCode[] = ['DEST_UNREACHABLE', 'DEST_NOT_MOUNTED', 'DEST_FOREIGN', 'DEST_UNWRITABLE'];

/** The places of a drill, in turn: it reads the first one that can be read. */
export class Places {
  private readonly places: readonly DrillPlace[];
  private readonly log: Log;
  private index = 0;
  private opened: { evidence: Repository; read: Repository } | undefined;
  /** why each place before the present one cannot be read */
  private readonly away: string[] = [];

  /** @param places at least one */
  constructor(places: readonly DrillPlace[], log: Log) {
    this.places = places;
    this.log = log;
  }

  /**
   * Opens the first place that can be read.
   *
   * @throws the error of the first place if none can be read; the signal's reason
   */
  async open(signal: AbortSignal): Promise<void> {
    let first: unknown;
    for (;;) {
      try {
        const opened = await this.present.repository();
        // One listing serves all sources. What the agent remembers of the place proves nothing about it.
        const view = listOnce(opened.destination, `${opened.project}/`);
        this.opened = { evidence: opened, read: opened.through(view, { uncached: true }) };
        return;
      } catch (error) {
        signal.throwIfAborted();
        first ??= error;
        if (this.goOn(errorInfo(error))) continue;
        // The caller learns only of the first place.
        if (error !== first)
          this.log.warn('a drill cannot read a copy', { copy: this.present.name, ...errorInfo(error) });
        throw first;
      }
    }
  }

  /** The repository at the present place, to read snapshots. It lists its objects once. */
  get repository(): Repository {
    return this.atPresent.read;
  }

  /** The same repository, to store evidence. */
  get evidence(): Repository {
    return this.atPresent.evidence;
  }

  private get atPresent() {
    if (!this.opened) throw new Error('no place is open');
    return this.opened;
  }

  get present(): DrillPlace {
    return this.places[this.index] as DrillPlace;
  }

  /** Says why the data comes from a copy, a line for each place before it. */
  get notes(): readonly string[] {
    return this.away;
  }

  /**
   * Opens the next place if an error means that the present one cannot be read. Resolves to whether there is one that
   * can be read; if not, the present place stays.
   */
  async leave(error: ErrorInfo, signal: AbortSignal): Promise<boolean> {
    const { index, opened } = this;
    const known = this.away.length;
    if (!this.goOn(error)) return false;
    try {
      await this.open(signal);
      return true;
    } catch (cause) {
      this.log.warn('a drill finds no copy that it can read', { ...errorInfo(cause) });
      Object.assign(this, { index, opened });
      this.away.length = known;
      return false;
    }
  }

  /**
   * Returns what an error at the present place means. An unmounted disk has no files at all: if the repository is gone
   * with the object, it is an outage.
   */
  async judge(error: unknown): Promise<unknown> {
    const { evidence } = this;
    if (!isDamage(error)) return error;
    const finding = await new DamageJudge(evidence, async () => []).judge('', error);
    return finding === 'outage' ? goneAway(evidence.destination, error) : error;
  }

  /** Goes on to the next place if an error means that the present one cannot be read. Returns whether it did. */
  private goOn({ code, message }: ErrorInfo): boolean {
    const next = this.places[this.index + 1];
    if (!next || !AWAY.includes(code)) return false;
    this.log.warn('a drill cannot read a place, so it reads a copy', {
      place: this.present.name,
      copy: next.name,
      code,
    });
    this.away.push(`${this.present.name} cannot be read, so a copy is used: ${message} (${code})`);
    this.index++;
    return true;
  }
}
