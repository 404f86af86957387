import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, LifeboatError } from '../base/errors.ts';
import type { Session } from '../sources/postgres/server/session.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { readSlot, type SlotState } from '../sources/postgres/wal/slot.ts';
import { SlotGuard } from './slot-guard.ts';
import type { Progress } from './slot-watch.ts';
import { refuseFullSpool } from './spool-limit.ts';

/** The most time between two looks, milliseconds: a server writes less than a gigabyte meanwhile. */
const LOOK_MS = 5000;
/** The time between two looks at the slots of others, milliseconds. */
const OTHERS_MS = 60_000;
/** The longest wait for work that was aborted, milliseconds. A system call on a hung disk does not end. */
const LEAVE_MS = 10_000;

/** A server that is looked at. */
export interface Watched {
  tools: Tools;
  session: Session;
  slot: string;
  /** of received WAL in the spool */
  directory: string;
  /** of the receiver, while it works */
  progress?: Progress;
}

interface LookoutOptions {
  intervalMs: number;
  alarm(error: LifeboatError): void;
  /** called after the guard has dropped the slot, with its last state */
  onDrop(state: SlotState, error: LifeboatError): void;
  /** called when the server has tablespaces, before the end */
  onTablespaces(error: LifeboatError): void;
  /** called about once a minute */
  onMinute(): Promise<void>;
  /** called while the receiver works and follows the server */
  onLook(state: SlotState): Promise<void>;
}

/**
 * Looks at a server and at the spool again and again, next to all other work: a destination that is slow or hangs must
 * not keep anybody from noticing that a disk fills.
 */
export class Lookout {
  private readonly options: LookoutOptions;
  private readonly guard: SlotGuard;

  constructor(options: LookoutOptions) {
    this.options = options;
    this.guard = new SlotGuard(options.alarm);
  }

  /** @throws WAL_GAP after the guard has dropped the slot */
  async check(one: Watched, state: SlotState, signal: AbortSignal): Promise<void> {
    await this.guard.check(one, state, signal).catch((error: unknown) => {
      if (hasCode(error, 'WAL_GAP')) this.options.onDrop(state, error);
      throw error;
    });
  }

  /**
   * Looks until something must end the connection.
   *
   * @throws WAL_GAP if the slot is gone, PG_STALLED if the receiver does not follow, SPOOL_FULL;
   *   PG_REPLICATION once there are tablespaces; the errors of queries
   */
  async watch(one: Watched, signal: AbortSignal): Promise<never> {
    for (let othersAt = Number.NEGATIVE_INFINITY; ; ) {
      await sleep(Math.min(LOOK_MS, this.options.intervalMs), undefined, { signal });
      const state = await readSlot(one.session, one.slot);
      await this.check(one, state, signal);
      if (performance.now() - othersAt > OTHERS_MS) {
        await this.guard.checkOthers(one, signal);
        await this.options.onMinute();
        othersAt = performance.now();
      }
      if (!one.progress) continue;
      // Nobody can recover what follows. The next connection says what to do.
      if (state.tablespaces) {
        const error = new LifeboatError('PG_REPLICATION', 'the server has tablespaces');
        this.options.onTablespaces(error);
        throw error;
      }
      one.progress.check(state);
      await refuseFullSpool(one.directory, this.options.alarm);
      await this.options.onLook(state);
    }
  }
}

/** What runs next to each other, see {@link nextTo}. */
interface SideBySide<T> {
  /** throws why the work must end */
  watch(signal: AbortSignal): Promise<never>;
  work(signal: AbortSignal): Promise<T>;
  /** called when one of them has ended */
  end(): Promise<void>;
}

/**
 * Does work next to a watch, until one of them ends. Work that does not end when it is aborted is left alone.
 *
 * @throws what the first one of them throws
 */
export async function nextTo<T>({ watch, work, end }: SideBySide<T>, outer: AbortSignal): Promise<T> {
  const over = new AbortController();
  const signal = AbortSignal.any([outer, over.signal]);
  const both = [work(signal), watch(signal)] as const;
  try {
    return await Promise.race(both);
  } finally {
    over.abort();
    await end();
    const late = sleep(LEAVE_MS, undefined, { ref: false });
    await Promise.race([Promise.allSettled(both), late]);
  }
}
