import { waitAtMost } from '../base/abort.ts';
import { errorInfo } from '../base/errors.ts';
import type { BaseSource } from '../plan/model.ts';
import { parseLsn } from '../store/wal/names.ts';
import { readRecoverable } from '../store/wal/recoverable.ts';
import { type Base, isBaseOf, type Window } from '../store/wal/windows.ts';
import type { ReceiverDeps } from './receiver-deps.ts';

/** The pauses between attempts to make a base backup, milliseconds. Each attempt notifies people if it fails. */
const BASE_PAUSE_MS = 60_000;
const LONGEST_PAUSE_MS = 60 * 60_000;
/** The longest question to the repository while a run waits for its answer, milliseconds. */
const ASK_MS = 60_000;
/** The pause while another run is under way, milliseconds: several servers may need a base backup at once. */
const BUSY_PAUSE_MS = 10_000;

/** Where the stored WAL of a server ends now: on the timeline on which the server writes. */
interface WalEnd {
  systemId: string;
  timeline: number;
  stored: bigint;
  /** see `since` and `era` in coverage.ts */
  since?: string | undefined;
  era?: number | undefined;
}

/**
 * Returns whether a window reaches the end of the stored WAL. A position means nothing on another timeline, and nothing
 * after the server went back to older data.
 */
export function leadsTo(window: Window, { timeline, stored, ...of }: WalEnd): boolean {
  const isSame = window.systemId === of.systemId && window.bases.every((base) => isBaseOf(base, of));
  return isSame && window.timeline === timeline && parseLsn(window.toLsn) >= stored;
}

/**
 * Returns whether a base backup is to be made, given the stored ones of all servers, oldest first: the newest one of
 * this history does not lead to the end of the stored WAL. An older one may, after a recovery to before the newer ones,
 * but retention removes that one first. One of the present timeline is enough: the order is that of the server's clock,
 * which may have been ahead once.
 *
 * @returns `later` while the WAL of the newest one is not stored
 */
export function needsBase(windows: readonly Window[], bases: readonly Base[], end: WalEnd): boolean | 'later' {
  const own = bases.filter((base) => isBaseOf(base, end));
  const newest = own.at(-1);
  if (own.some(({ timeline, stopLsn }) => timeline === end.timeline && parseLsn(stopLsn) > end.stored)) return 'later';
  const leading = windows.filter((one) => leadsTo(one, end)).flatMap((one) => one.bases);
  return !leading.some(({ snapshot, timeline }) => timeline === end.timeline || snapshot === newest?.snapshot);
}

/**
 * Makes a base backup when the newest one does not lead to the WAL that is stored now: at the beginning, after a gap,
 * and after a recovery to before it.
 */
export class BaseMaker {
  private readonly deps: Pick<ReceiverDeps, 'repository' | 'makeBase' | 'log'>;
  private readonly source: BaseSource;
  private wanted = true;
  /** when to look again, by `performance.now()` */
  private next = 0;
  /** attempts since the last time that no base backup was needed */
  private attempts = 0;
  private making: Promise<void> | undefined;

  constructor(deps: Pick<ReceiverDeps, 'repository' | 'makeBase' | 'log'>, source: BaseSource) {
    this.deps = deps;
    this.source = source;
  }

  /** Notes that the stored WAL may follow no base backup. */
  want(): void {
    this.wanted = true;
  }

  /** Resolves when no base backup is being made. */
  async ended(): Promise<void> {
    await this.making;
  }

  /**
   * Begins a base backup if the newest stored one does not lead to the end of the stored WAL. Throws as the repository
   * does.
   *
   * @param signals `read`: ends the reads of the repository before the base backup; `make`: ends the base backup, which
   *   goes on after `read` has aborted
   */
  async provide(end: WalEnd, { read, make }: { read: AbortSignal; make: AbortSignal }): Promise<void> {
    if (!this.wanted || this.making || performance.now() < this.next) return;
    this.next = performance.now() + Math.min(BASE_PAUSE_MS * 2 ** this.attempts, LONGEST_PAUSE_MS);
    const { deps, source } = this;
    const needed = await this.isNeeded(end, read);
    read.throwIfAborted();
    if (needed === 'later') return;
    this.wanted = needed;
    if (!needed) {
      this.attempts = 0;
      this.next = 0;
      return;
    }
    this.attempts++;
    deps.log.info('making a base backup, because the stored WAL does not follow the newest one', {
      source: source.server,
    });
    // A run that has the lock may make one while this one waits.
    const isNeeded = async () => {
      // If the repository does not answer, the run itself meets that, and reports it.
      const need = await waitAtMost(ASK_MS, this.isNeeded(end, make)).catch(() => true);
      return need === true || need === undefined;
    };
    this.making = deps
      .makeBase(source, isNeeded, make)
      .then((made) => {
        if (made) return;
        this.attempts--;
        this.next = performance.now() + BUSY_PAUSE_MS;
        deps.log.info('another run is under way; the base backup follows it', { source: source.server });
      })
      .catch((error: unknown) => deps.log.error('a base backup could not be made', { ...errorInfo(error) }))
      .finally(() => {
        this.making = undefined;
      });
  }

  /** Asks the repository. */
  private async isNeeded(end: WalEnd, signal: AbortSignal): Promise<boolean | 'later'> {
    const { deps, source } = this;
    const names = { source: source.server, base: source.name };
    const { windows, bases } = await readRecoverable(await deps.repository(), names, undefined, signal);
    return needsBase(windows, bases, end);
  }
}
