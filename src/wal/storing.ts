import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, LifeboatError } from '../base/errors.ts';
import { watched } from '../run/watchdog.ts';
import { readSlot, type SlotState } from '../sources/postgres/wal/slot.ts';
import type { BaseMaker } from './base-maker.ts';
import type { Watched } from './lookout.ts';
import type { ReceiverStatus } from './receiver-status.ts';
import { BATCH, type Shipping } from './shipping.ts';
import { listReceived } from './spool/received-files.ts';
import { isSpoolFull } from './spool-limit.ts';

/** The longest pause after a failure, and between two looks at the spool, milliseconds. */
const PAUSE_MS = 2000;

/** The errors that end a connection. DEST_EXISTS: the log has a page that this connection does not know. */
const ENDING = ['LOCKED', 'WAL_GAP', 'WAL_DIVERGED', 'CLOCK_JUMPED', 'PG_REPLICATION', 'DEST_EXISTS'] as const;

/** A connection whose WAL is stored. */
export interface Stored extends Watched {
  shipping: Shipping;
  systemId: string;
  segmentSize: number;
  /** the server's position when the connection was made */
  begun: bigint;
}

interface StoringOptions {
  status: ReceiverStatus;
  bases: Pick<BaseMaker, 'provide'>;
  intervalMs: number;
  /** how long the destination may make no progress, milliseconds */
  stallTimeoutMs: number;
  /** called when the stored WAL has gone past the position of the server at the connection */
  onCaughtUp(shipping: Shipping): void;
}

/** Stores received WAL for as long as a connection lasts. */
export class Storing {
  private readonly options: StoringOptions;

  constructor(options: StoringOptions) {
    this.options = options;
  }

  /** Ships what waits before more is received, if the spool holds much. Throws like {@link follow}. */
  async drain(connected: Stored, signal: AbortSignal): Promise<void> {
    while (await isSpoolFull(connected.directory, 2)) {
      const state = await readSlot(connected.session, connected.slot);
      const shipped = await this.ship(connected.shipping, state, signal);
      // What is left now is the file that is being received, however large it is.
      if (shipped && !shipped.more) return;
      if (!shipped) await sleep(Math.min(PAUSE_MS, this.options.intervalMs), undefined, { signal });
    }
  }

  /**
   * Ships received WAL until something fails.
   *
   * @param whole ends a base backup, which outlives this connection
   * @throws LOCKED, WAL_GAP, WAL_DIVERGED, CLOCK_JUMPED; PG_REPLICATION once a tablespace was created; DEST_UNREACHABLE
   *   for a destination that hangs; the errors of queries
   */
  async follow(connected: Stored, signal: AbortSignal, whole: AbortSignal): Promise<void> {
    const { session, slot, shipping, systemId } = connected;
    const { bases, intervalMs, onCaughtUp } = this.options;
    for (;;) {
      const state = await readSlot(session, slot);
      const shipped = await this.ship(shipping, state, signal);
      // Newer WAL follows without a gap, or its gap is noted. A later gap has another reason.
      if (shipped?.stored !== undefined && shipped.stored > connected.begun) onCaughtUp(shipping);
      if (shipped?.stored !== undefined && !shipped.more) {
        const { since, era } = shipped;
        const end = { systemId, timeline: state.timeline, stored: shipped.stored, since, era };
        await this.watched((read) => bases.provide(end, { read, make: whole }), signal);
      }
      if (!shipped) await sleep(Math.min(PAUSE_MS, intervalMs), undefined, { signal });
      else if (!shipped.more) await this.pause(connected, signal);
    }
  }

  /** Runs work on the destination. @throws DEST_UNREACHABLE if the destination hangs */
  async watched<T>(work: (signal: AbortSignal, alive: () => void) => Promise<T>, signal: AbortSignal): Promise<T> {
    const { status, stallTimeoutMs: limitMs } = this.options;
    const hint = 'Check the disk, server or network behind the destination.';
    const seconds = Math.round(limitMs / 1000);
    const error = new LifeboatError('DEST_UNREACHABLE', `storing WAL made no progress for ${seconds} s`, { hint });
    try {
      return await watched({ limitMs, stalled: () => error, signal }, work);
    } catch (cause) {
      // It has lasted for that long already.
      if (cause === error) await status.failed(error, limitMs);
      throw cause;
    }
  }

  /** Ships once. A failure of the destination does not end the receiver: the spool keeps what waits. */
  private async ship(shipping: Shipping, state: SlotState, signal: AbortSignal) {
    let isLeft = false;
    try {
      const shipped = await this.watched(async (until, alive) => {
        until.addEventListener('abort', () => (isLeft = true));
        return shipping.ship(state, until, alive);
      }, signal);
      await this.options.status.stored(state, shipped);
      return shipped;
    } catch (error) {
      signal.throwIfAborted();
      // What hangs may still use the shipping, so another connection needs another one. It also opens the log again.
      if (isLeft || hasCode(error, ...ENDING)) throw error;
      await this.options.status.failed(error);
      return undefined;
    }
  }

  /** Waits until the newest part is due. Complete segments go earlier, before they fill the spool. */
  private async pause({ directory, segmentSize }: Stored, signal: AbortSignal): Promise<void> {
    const until = performance.now() + this.options.intervalMs;
    for (let left = this.options.intervalMs; left > 0; left = until - performance.now()) {
      await sleep(Math.min(PAUSE_MS, left), undefined, { signal });
      if ((await listReceived(directory, segmentSize)).complete.length >= BATCH) return;
    }
  }
}
